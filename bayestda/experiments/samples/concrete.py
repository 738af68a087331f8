"""UCI Concrete: predictions without a twentieth of the data, as distributions, and retraining."""

from dataclasses import asdict
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor, nn

import bayestda as tda
from bayestda.experiments.data import tables
from bayestda.experiments.stages.distributional import counts_up_to
from bayestda.training.posterior import Posterior

RECIPE = tda.Recipe(epochs=20, batch_size=64, lr=0.1, weight_decay=1e-3, optimizer="sgd", keep=1)
WIDTH, NUM_GROUPS, SHARE, NUM_QUERIES, CHUNK = 16, 24, 0.05, 10, 200
DAMPINGS = (1e-4, 1e-3, 1e-2, 1e-1)  # of the influence function, beside the horizon's, ω + 1/Σ η
PROJECTION = 64  # TRAK's, of 161 parameters: with 128 its kernel is singular in some runs


def build() -> nn.Module:
    """Build a network with one hidden layer."""
    return nn.Sequential(nn.Linear(8, WIDTH), nn.GELU(), nn.Linear(WIDTH, 1))


def output(output_BK: Tensor, _y_B: Tensor) -> Tensor:
    """Return what is measured: strength, in standard deviations of the training rows."""
    return output_BK[:, 0]


def make(num_runs: int) -> xr.Dataset:
    """Return samples before and after every removal, predicted and retrained."""
    split = tables.load("concrete")
    queries = split.test.take(slice(0, NUM_QUERIES))
    removed_GN = np.random.default_rng(0).random((NUM_GROUPS, len(split.train))) < SHARE
    objective, seeds = tda.Regression(measurement=output), range(2 * num_runs)
    posterior, other = (
        tda.train_posterior(build, objective, split.train, RECIPE, seeds=part, chunk=CHUNK)
        for part in (seeds[:num_runs], seeds[num_runs:])
    )
    data, weights = (objective, split.train, queries), 1.0 - removed_GN
    measured, other_measured = (
        tda.measure(some, objective, queries) for some in (posterior, other)
    )
    retrained, independent = (
        tda.retrained(some, *data, weights=weights, chunk=CHUNK).rename(member="group")
        for some in (posterior, other)
    )
    return xr.Dataset({
        "measured": measured,
        "other_measured": other_measured.rename(seed="other_seed"),
        "shift": shifts(posterior, data, removed_GN),
        "trak": ensembles(posterior, data, removed_GN),
        "retrained": retrained,
        "independent": independent.rename(seed="other_seed"),
    })  # fmt: skip


def shifts(posterior: Posterior, data: Any, removed_GN: np.ndarray) -> xr.DataArray:
    """Return shifts by every method, dims (method, seed, checkpoint, group, test)."""
    (horizon,) = posterior.horizons or ()
    groups: dict[str, Any] = {"groups": removed_GN}
    found = {"unrolled": tda.shifts(posterior, *data, **groups)}
    for damping in DAMPINGS:
        own = tda.shifts(posterior, *data, **groups, method="influence", damping=damping)
        found[f"influence λ = {damping:g}"] = own
    decay = RECIPE.weight_decay
    own = tda.shifts(posterior, *data, **groups, method="influence", damping=decay + 1 / horizon)
    found["influence λ = ω + 1/Σ η"] = own
    asked: dict[str, Any] = {"method": "flow", "horizon": horizon, "decay": decay}
    found["flow"] = tda.shifts(posterior, *data, **(groups | asked))
    grad_dot = tda.attribute(posterior, *data, method="grad_dot")
    scaled = tda.as_shifts(grad_dot, scale=horizon / len(data[1]))
    found["grad_dot"] = tda.group_scores(scaled, removed_GN)
    stacked = xr.concat(list(found.values()), dim="method", join="override", compat="override",
                        coords="minimal")  # fmt: skip
    return stacked.assign_coords(method=list(found))


def ensembles(posterior: Posterior, data: Any, removed_GN: np.ndarray) -> xr.DataArray:
    """Return TRAK's scores, without a unit, of the first runs as an ensemble, by their number."""
    sizes = counts_up_to(len(posterior.seeds))
    found = []
    for size in sizes:
        runs = [posterior.samples[seed][-1] for seed in posterior.seeds[:size]]
        ensemble = Posterior(posterior.build, {0: runs}, tuple(range(size)))  # averages these
        scores = tda.attribute(ensemble, *data, method="trak", projection=PROJECTION)
        found.append(tda.group_scores(scores.isel(seed=0, drop=True), removed_GN))
    return xr.concat(found, "size").assign_coords(size=sizes)


def data() -> tables.Split:
    """Load the data, with their hash."""
    return tables.load("concrete")


SETTINGS = {
    **asdict(RECIPE), "width": WIDTH, "groups": NUM_GROUPS, "share": SHARE, "queries": NUM_QUERIES,
    "dampings": DAMPINGS, "projection": PROJECTION, "decay_of": ("influence", "flow"),
}  # fmt: skip
