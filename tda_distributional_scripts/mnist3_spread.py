"""MNIST3: images whose removal changes the spread of a margin, or its tail, and not its mean.

    python tda_distributional_scripts/mnist3_spread.py [--runs 150] [--retrained 500]

CNN2 on 30 images, margins of 60 queries. *Screening*: the runs are retrained without each image.
Of the 1,800 pairs of an image and a query, three are chosen for the variance and three for the
lower tail (below the tenth of the runs). Eligible first: q < .05 (of :func:`tda.rank_removals`) and
a mean that is within ± .05 standard deviations by one standard error; of these, those whose 95 %
interval of the change ends farthest from zero, of a variance as a share of it. No image or query
twice in three, no pair twice in six.
*Confirmation*: 500 runs of other seeds, with all images, without those chosen, and without five
random others, from the same initialisations. Nothing is chosen on them; the tests are in
analysis/distributional_mnist3_spread.py.

Power, worked out beforehand: a pilot of 60 runs had standard errors that make .018 to .055 of the
variance and .011 to .016 standard deviations of the mean with 500. At the level .05/6 of Holm's
first step a variance that changes by a fifth is then found with probability .89 or more, and a mean
that moves by .05 (0) standard deviations passes for unchanged with .77 (.99) or more.

Beside it the horizon filter's shifts in the first 40 runs: would a prediction have found them?

Reads   data/mnist3/
Writes  results/distributional_mnist3_spread/samples.nc
Takes   22 minutes of CPU time, on one core
"""

import numpy as np
import pandas as pd
import xarray as xr

import bayestda as tda
from bayestda.experiments.stages import margins
from bayestda.experiments.stages.distributional import run_script

NUM_QUERIES, NUM_TOP, NUM_CONTROLS, NUM_FILTERED = 60, 3, 5, 40
TAIL, RESAMPLES = 0.1, 100
NEAR = 0.05  # standard deviations of the margin: half of what counts as unchanged


def make(num_runs: int, num_retrained: int) -> xr.Dataset:
    """Samples of the screening, and of others, retrained without what it chose."""
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
    """The pairs to confirm: some for the variance, then others for the tail."""
    by_variance = ranked(measured, shifts, "variance", 2)
    by_tail = ranked(measured, shifts, tda.tail(threshold_M), 0)
    first = distinct(by_variance).assign(difference="variance")
    used = pd.MultiIndex.from_frame(first[["train", "test"]])
    others = by_tail[~pd.MultiIndex.from_frame(by_tail[["train", "test"]]).isin(used)]
    return pd.concat([first, distinct(others).assign(difference="tail")])


def ranked(
    measured: xr.DataArray, shifts: xr.DataArray, difference: object, power: int
) -> pd.DataFrame:
    """All pairs, eligible ones first, then by what surely changes, in spreads to a power."""
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
    """The first pairs of which no two share an image or a query."""
    kept: list[int] = []
    for place, (image, query) in enumerate(zip(pairs["train"], pairs["test"], strict=True)):
        own = pairs.iloc[kept]
        if len(kept) < NUM_TOP and image not in set(own["train"]) and query not in set(own["test"]):
            kept.append(place)
    return pairs.iloc[kept]


def with_controls(candidates: np.ndarray, every: np.ndarray) -> np.ndarray:
    """Names of the candidates, then of random other images."""
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

if __name__ == "__main__":
    run_script(
        __doc__, "mnist3_spread", SETTINGS, make, runs=150, retrained=500, data=margins.split
    )
