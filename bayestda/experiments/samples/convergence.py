"""Unrolled differentiation against influence functions, over training and learning rates."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

import bayestda as tda
from bayestda.experiments.data import tables
from bayestda.training.posterior import Posterior

RATES, EPOCHS = (0.3, 0.1, 0.03), (1, 2, 4, 8, 16, 32, 64, 128)
NUM_TRAIN, NUM_REMOVED, NUM_QUERIES, WIDTH = 160, 40, 10, 8
RECIPE = tda.Recipe(
    epochs=EPOCHS[-1], batch_size=40, lr=0.1, weight_decay=0.01, optimizer="sgd", keep=EPOCHS[-1]
)


def build() -> nn.Module:
    """Build a smooth network, in float64."""
    return nn.Sequential(nn.Linear(8, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 1)).double()


def make(num_runs: int) -> xr.Dataset:
    """Return shifts by rate and method, dims (rate, method, seed, checkpoint, train, test)."""
    split = tables.load("concrete", dtype=torch.float64)
    data = split.train.take(slice(0, NUM_TRAIN)), split.test.take(slice(0, NUM_QUERIES))
    by_rate = [shifts_at(rate, data, range(num_runs)) for rate in RATES]
    return xr.Dataset({"shift": xr.concat(by_rate, "rate").assign_coords(rate=list(RATES))})


def shifts_at(rate: float, data: Any, seeds: range) -> xr.DataArray:
    """Return shifts of the first examples by every method, at the chosen epochs."""
    objective, recipe, first = tda.Regression(), replace(RECIPE, lr=rate), slice(NUM_REMOVED)
    whole = tda.train_posterior(build, objective, data[0], recipe, seeds=seeds, chunk=len(seeds))
    groups = np.eye(NUM_TRAIN, dtype=bool)[first]
    asked: dict[str, Any] = {"measurement": "output"}
    unrolled = tda.shifts(whole, objective, *data, groups=groups, **asked)
    few, found = at_epochs(whole), {"unrolled": unrolled.sel(checkpoint=list(EPOCHS)).values}
    decay, horizons = recipe.weight_decay, few.horizons or ()
    methods: dict[str, dict[str, Any]] = {
        "influence λ = ω": {"method": "influence_hessian", "damping": decay},
        "flow": {"method": "flow", "decay": decay},
    }
    for name, settings in methods.items():
        shifts = tda.shifts(few, objective, *data, **(asked | settings))
        found[name] = shifts.values[:, :, first]
    dampings = [decay + 1 / horizon for horizon in horizons]
    found["influence λ = ω + 1/Σ η"] = np.concatenate(
        [
            tda.shifts(
                at_epochs(whole, [epoch]), objective, *data, **asked, method="influence_hessian",
                damping=damping,
            ).values[:, :, first]
            for epoch, damping in zip(EPOCHS, dampings, strict=True)
        ],
        axis=1,
    )  # fmt: skip
    return xr.DataArray(
        np.stack(list(found.values())),
        dims=("method", "seed", "checkpoint", "train", "test"),
        coords={"method": list(found), "checkpoint": list(EPOCHS)},
    )


def at_epochs(posterior: Posterior, epochs: list[int] | None = None) -> Posterior:
    """Return the posterior with the samples of some epochs alone."""
    places = [epoch - 1 for epoch in epochs or EPOCHS]
    samples = {seed: [own[place] for place in places] for seed, own in posterior.samples.items()}
    horizons = posterior.horizons and tuple(posterior.horizons[place] for place in places)
    return Posterior(posterior.build, samples, tuple(epochs or EPOCHS), horizons=horizons)


def data() -> tables.Split:
    """Load the data, with their hash."""
    return tables.load("concrete")


SETTINGS = {
    **asdict(RECIPE), "rates": RATES, "epochs_read": EPOCHS, "train": NUM_TRAIN,
    "removed": NUM_REMOVED, "queries": NUM_QUERIES, "width": WIDTH, "decay_of": ("flow",),
}  # fmt: skip
