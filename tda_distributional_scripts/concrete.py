"""UCI Concrete: predictions without a twentieth of the data, as distributions, and retraining.

    python tda_distributional_scripts/concrete.py [--runs 100]

An MLP with 16 GELUs predicts compressive strength. Random groups of training rows are removed:
their shifts by unrolled differentiation and by estimators at the final networks, and two
retrainings, with the seeds of the predictions (common random numbers) and with others.

Reads   data/concrete/
Writes  results/distributional_concrete/samples.nc
Takes   20 s of CPU time for 24 runs, on one core
"""

from dataclasses import asdict

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

import tda
from tda import tabular
from tda.stages.distributional import run_script

RECIPE = tda.Recipe(epochs=20, batch_size=64, lr=0.1, weight_decay=1e-3, optimizer="sgd", keep=1)
WIDTH, NUM_GROUPS, SHARE, NUM_QUERIES, CHUNK = 16, 24, 0.05, 10, 200
METHODS = {  # besides unrolled: of tda.shifts
    "influence λ = 1/Σ η": {"method": "influence", "damping": "horizon"},
    "influence λ = 0.001": {"method": "influence", "damping": 1e-3},
    "flow": {"method": "flow"},
}


def build() -> nn.Module:
    """A network with one hidden layer."""
    return nn.Sequential(nn.Linear(8, WIDTH), nn.GELU(), nn.Linear(WIDTH, 1))


def output(output_BK: Tensor, _y_B: Tensor) -> Tensor:
    """What is measured: the predicted strength, in standard deviations of the training rows."""
    return output_BK[:, 0]


def make(num_runs: int) -> xr.Dataset:
    """Samples before and after every removal, predicted and retrained."""
    split = tabular.load("concrete")
    queries = split.test.take(slice(0, NUM_QUERIES))
    removed_GN = np.random.default_rng(0).random((NUM_GROUPS, len(split.train))) < SHARE
    objective, seeds = tda.Regression(measurement=output), range(2 * num_runs)
    posterior, other = (
        tda.train_posterior(build, objective, split.train, RECIPE, seeds=part, chunk=CHUNK)
        for part in (seeds[:num_runs], seeds[num_runs:])
    )
    data, weights = (objective, split.train, queries), 1.0 - removed_GN
    moved = {"unrolled": tda.shifts(posterior, *data, groups=removed_GN)}
    for name, settings in METHODS.items():
        moved[name] = tda.shifts(posterior, *data, groups=removed_GN, **settings)
    grad_dot = tda.attribute(posterior, *data, method="grad_dot")
    scaled = tda.as_shifts(grad_dot, scale=posterior.horizons[0] / len(split.train))
    moved["grad_dot"] = tda.group_scores(scaled, removed_GN)
    retrained, independent = (
        tda.retrained(some, *data, weights=weights, chunk=CHUNK).rename(member="group")
        for some in (posterior, other)
    )
    methods = xr.concat(list(moved.values()), dim="method", join="override", compat="override",
                        coords="minimal")  # fmt: skip
    return xr.Dataset({
        "measured": tda.measure(posterior, objective, queries),
        "shift": methods.assign_coords(method=list(moved)),
        "retrained": retrained,
        "independent": independent.rename(seed="other_seed"),
    })  # fmt: skip


SETTINGS = {
    **asdict(RECIPE), "width": WIDTH, "groups": NUM_GROUPS, "share": SHARE, "queries": NUM_QUERIES,
}  # fmt: skip

if __name__ == "__main__":
    torch.set_num_threads(1)
    run_script(__doc__, "concrete", SETTINGS, make, runs=100)
