"""One-dimensional regression in which the mean and W₂ name different examples."""

from dataclasses import asdict

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

import bayestda as tda

RECIPE = tda.Recipe(
    epochs=100, batch_size=21, lr=0.01, weight_decay=0.0, optimizer="sgd", momentum=0.9, keep=1
)
WIDTH, SIDE, NOISE, GAP, END = 32, 10, 0.1, 0.7, 2.0
FIRST_SCALE, LAST_SCALE = 2.0, 0.3  # standard deviations of the initial parameters
QUERIES = (torch.zeros(1, 1), torch.zeros(1))  # the output at x = 0 is measured
CHUNK = 100


def build() -> nn.Module:
    """Build a network with one hidden layer whose initial functions differ much."""
    first, last = nn.Linear(1, WIDTH), nn.Linear(WIDTH, 1)
    nn.init.normal_(first.weight, std=FIRST_SCALE)
    nn.init.normal_(first.bias, std=FIRST_SCALE)
    nn.init.normal_(last.weight, std=LAST_SCALE)
    return nn.Sequential(first, nn.Tanh(), last)


def points() -> tuple[np.ndarray, np.ndarray]:
    """Return the points beside the gap."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-END, -GAP, SIDE), rng.uniform(GAP, END, SIDE)])
    return x, np.sin(2 * x) + NOISE * rng.normal(size=len(x))


def output(output_BK: Tensor, _y_B: Tensor) -> Tensor:
    """Return the output, which is measured."""
    return output_BK[:, 0]


def make(num_runs: int) -> xr.Dataset:
    """Return samples before and after every removal, predicted and retrained."""
    x, y = points()
    seeds, objective = range(num_runs), tda.Regression(measurement=output)
    alone = tda.train_posterior(build, objective, _data(x, y), RECIPE, seeds=seeds, chunk=CHUNK)
    height = float(tda.measure(alone, objective, QUERIES).mean())
    x, y = np.append(x, 0.0), np.append(y, height)
    train = _data(x, y)
    posterior = tda.train_posterior(build, objective, train, RECIPE, seeds=seeds, chunk=CHUNK)
    asked = (posterior, objective, train, QUERIES)
    without = tda.retrained(*asked, weights=1 - np.eye(len(x)), chunk=CHUNK)
    curve_x = np.linspace(-END, END, 81)
    curves = tda.measure(posterior, objective, _data(curve_x, 0 * curve_x))
    samples = xr.Dataset({
        "measured": tda.measure(posterior, objective, QUERIES),
        "shift": tda.shifts(*asked),
        "retrained": without.rename(member="train"),
        "curve": curves.rename(test="place"),
    })  # fmt: skip
    return samples.assign_coords(x=("train", x), y=("train", y), curve_x=("place", curve_x))


def _data(x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.tensor(x)[:, None].float(), torch.tensor(y).float()


SETTINGS = {**asdict(RECIPE), "width": WIDTH, "side": SIDE, "noise": NOISE, "gap": GAP}
