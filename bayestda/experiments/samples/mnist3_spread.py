"""MNIST3: images whose removal changes the spread of a margin, or its tail, and not its mean."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import bayestda as tda
from bayestda.experiments.samples import margins

NUM_QUERIES, NUM_TOP, NUM_CONTROLS, NUM_FILTERED = 60, 3, 5, 40
TAIL, RESAMPLES = 0.1, 100
NEAR = 0.05  # standard deviations of the margin: half of what counts as unchanged


def make(num_runs: int, num_retrained: int) -> xr.Dataset:
    """Return samples of the screening, and of others, retrained without what it chose."""
    train, queries = margins.images(NUM_QUERIES)
    posterior = margins.trained(train, range(num_runs))
    measured = tda.measure(posterior, margins.OBJECTIVE, queries)
    shifts = tda.as_shifts(tda.leave_one_out(posterior, margins.OBJECTIVE, train, queries))
    threshold_M = measured.isel(checkpoint=0).quantile(TAIL, "seed").values
    pairs = choose(measured, shifts, threshold_M)
    names = with_controls(pairs["train"].unique(), shifts["train"].values)
    other = margins.trained(train, range(num_runs, num_runs + num_retrained))
    before = tda.measure(other, margins.OBJECTIVE, queries)
    after = margins.without(other, train, queries, names[:, None] == shifts["train"].values)
    few = margins.trained(train, range(min(num_runs, NUM_FILTERED)))
    samples = xr.Dataset({
        "measured": measured,
        "shift": shifts,
        "filtered": margins.shifts(few, train, queries).rename(seed="filtered_seed"),
        "threshold": ("test", threshold_M),
        "before": before.rename(seed="other_seed"),
        "retrained": after.rename(seed="other_seed", member="removed"),
        **{f"pair_{name}": ("pair", pairs[name].values) for name in ("train", "test", "eligible")},
        "pair_difference": ("pair", pairs["difference"].to_numpy(dtype=str)),
    })  # fmt: skip
    is_control = ~np.isin(names, pairs["train"])
    return samples.assign_coords(removed=names, control=("removed", is_control))


def choose(measured: xr.DataArray, shifts: xr.DataArray, threshold_M: np.ndarray) -> pd.DataFrame:
    """Choose the pairs to confirm: some for the variance, then others for the tail."""
    by_variance = ranked(measured, shifts, "variance", 2)
    by_tail = ranked(measured, shifts, tda.tail(threshold_M), 0)
    first = distinct(by_variance).assign(difference="variance")
    used = pd.MultiIndex.from_frame(first[["train", "test"]])
    others = by_tail[~pd.MultiIndex.from_frame(by_tail[["train", "test"]]).isin(used)]
    return pd.concat([first, distinct(others).assign(difference="tail")])


def ranked(
    measured: xr.DataArray, shifts: xr.DataArray, difference: Any, power: int
) -> pd.DataFrame:
    """Rank all pairs: eligible ones first, then by what surely changes, in spreads to a power."""
    table = tda.rank_removals(measured, shifts, difference, num_resamples=RESAMPLES)
    spread = measured.isel(checkpoint=0).std("seed", ddof=1).to_series()
    spread = spread.reindex(table["test"]).to_numpy()
    error = (table["mean_high"] - table["mean_low"]) / (2 * 1.96)
    eligible = (table["q"] < 0.05) & (table["mean"].abs() + error < NEAR * spread)
    sure = np.maximum(table["low"], -table["high"]) / spread**power
    return table.assign(eligible=eligible, sure=sure).sort_values(
        ["eligible", "sure"], ascending=False
    )


def distinct(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the first pairs of which no two share an image or a query."""
    kept: list[int] = []
    for place, (image, query) in enumerate(zip(pairs["train"], pairs["test"], strict=True)):
        own = pairs.iloc[kept]
        if len(kept) < NUM_TOP and image not in set(own["train"]) and query not in set(own["test"]):
            kept.append(place)
    return pairs.iloc[kept]


def with_controls(candidates: np.ndarray, every: np.ndarray) -> np.ndarray:
    """Return the names of the candidates, then of random other images."""
    others = np.setdiff1d(every, candidates)
    return np.concatenate([candidates, np.random.default_rng(0).permutation(others)[:NUM_CONTROLS]])


SETTINGS = {
    **margins.SETTINGS,
    "queries": NUM_QUERIES,
    "top": NUM_TOP,
    "controls": NUM_CONTROLS,
    "filtered": NUM_FILTERED,
    "tail": TAIL,
    "near": NEAR,
}
data = margins.split
