"""MNIST3: images whose removal changes the spread of a margin, or its tail, and not its mean.

    python tda_distributional_scripts/mnist3_spread.py [--runs 100] [--retrained 500]

Shifts of the margins of 30 queries by removal of each of 30 images say which pairs of an image and
a query to look at: those whose variance, or probability of the lower tail, changes most among those
whose mean does not (:func:`tda.rank_removals`). CNN2 is then retrained without these images, and
without random others, in runs of other seeds, so that choice and confirmation share nothing.

Reads   data/mnist3/
Writes  results/distributional_mnist3_spread/samples.nc
Takes   TIME
"""

import numpy as np
import pandas as pd
import torch
import xarray as xr

import tda
from tda.stages import margins
from tda.stages.distributional import run_script

NUM_TOP, NUM_CONTROLS, TAIL, RESAMPLES = 3, 4, 0.1, 100


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
    """The pairs to look at: relative to the query's spread largest, unchanged means first."""
    table = tda.rank_removals(measured, shifts, difference, num_resamples=RESAMPLES)
    size = table["value"].abs()
    if name == "variance":
        variance = measured.isel(checkpoint=0).var("seed", ddof=1).to_series()
        size = size / variance.reindex(table["test"]).to_numpy()
    ordered = table.assign(size=size, difference=name)
    ordered = ordered.sort_values(["only", "size"], ascending=False)
    return ordered.drop_duplicates("test").head(NUM_TOP)


def with_controls(candidates: np.ndarray, every: np.ndarray) -> np.ndarray:
    """Names of the candidates, then of random other images."""
    others = np.setdiff1d(every, candidates)
    return np.concatenate([candidates, np.random.default_rng(0).permutation(others)[:NUM_CONTROLS]])


SETTINGS = {**margins.SETTINGS, "top": NUM_TOP, "controls": NUM_CONTROLS, "tail": TAIL}

if __name__ == "__main__":
    torch.set_num_threads(1)
    run_script(__doc__, "mnist3_spread", SETTINGS, make, runs=100, retrained=500)
