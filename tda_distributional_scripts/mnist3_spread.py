"""MNIST3: images whose removal changes the spread of a margin, or its tail, and not its mean.

    python tda_distributional_scripts/mnist3_spread.py [--runs 100] [--retrained 500]

Shifts of the margins of 30 queries by removal of each of 30 images say which pairs of an image and
a query to look at: those whose variance, or probability of the lower tail, changes most among those
whose mean does not (:func:`tda.rank_removals`). CNN2 is then retrained without these images, and
without random others, in runs of other seeds, so that choice and confirmation share nothing.

Reads   data/mnist3/
Writes  results/distributional_mnist3_spread/samples.nc
Takes   10 min on busy cores, 100 s of CPU time, for 40 runs and 60 retrained
"""

import tda.interruption  # noqa: F401

import numpy as np
import pandas as pd
import torch
import xarray as xr

import tda
from tda.stages import margins
from tda.stages.distributional import run_script

NUM_TOP, NUM_CONTROLS, TAIL, RESAMPLES = 3, 4, 0.1, 100
UNCHANGED = 0.1  # standard deviations of the margin: changes of the mean that do not count


def make(num_runs: int, num_retrained: int) -> xr.Dataset:
    """Samples of the first runs, with shifts, and of others, retrained without images."""
    train, queries = margins.images()
    posterior = margins.trained(train, range(num_runs))
    measured = tda.measure(posterior, margins.OBJECTIVE, queries)
    shifts = margins.shifts(posterior, train, queries)
    threshold_M = measured.isel(checkpoint=0).quantile(TAIL, "seed").values
    pairs = pd.concat([
        chosen(measured, shifts, "variance", "variance"),
        chosen(measured, shifts, tda.tail(threshold_M), "tail"),
    ])  # fmt: skip
    names = with_controls(pairs["train"].unique(), shifts["train"].values)
    removed_RN = names[:, None] == shifts["train"].values
    other = margins.trained(train, range(num_runs, num_runs + num_retrained))
    before = tda.measure(other, margins.OBJECTIVE, queries)
    after = margins.without(other, train, queries, removed_RN)
    samples = xr.Dataset({
        "measured": measured,
        "shift": shifts,
        "threshold": ("test", threshold_M),
        "before": before.rename(seed="other_seed"),
        "retrained": after.rename(seed="other_seed", member="removed"),
        **{f"pair_{name}": ("pair", pairs[name].values) for name in ("train", "test", "only")},
        "pair_difference": ("pair", pairs["difference"].to_numpy(dtype=str)),
    })  # fmt: skip
    is_control = ~np.isin(names, pairs["train"])
    return samples.assign_coords(removed=names, control=("removed", is_control))


def chosen(
    measured: xr.DataArray, shifts: xr.DataArray, difference: object, name: str
) -> pd.DataFrame:
    """The pairs to look at: of unchanged means, the sure ones first, then the largest change."""
    table = tda.rank_removals(measured, shifts, difference, num_resamples=RESAMPLES)
    spread = measured.isel(checkpoint=0).std("seed", ddof=1).to_series()
    spread = spread.reindex(table["test"]).to_numpy()
    size = table["value"].abs() / (spread**2 if name == "variance" else 1)
    table = table.assign(size=size, difference=name)[table["mean"].abs() < UNCHANGED * spread]
    ordered = table.sort_values(["only", "size"], ascending=False)
    return ordered.drop_duplicates("test").head(NUM_TOP)


def with_controls(candidates: np.ndarray, every: np.ndarray) -> np.ndarray:
    """Names of the candidates, then of random other images."""
    others = np.setdiff1d(every, candidates)
    return np.concatenate([candidates, np.random.default_rng(0).permutation(others)[:NUM_CONTROLS]])


SETTINGS = {
    **margins.SETTINGS,
    "top": NUM_TOP,
    "controls": NUM_CONTROLS,
    "tail": TAIL,
    "unchanged": UNCHANGED,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    run_script(__doc__, "mnist3_spread", SETTINGS, make, runs=100, retrained=500)
