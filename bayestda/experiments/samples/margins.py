"""The system of the distributional experiments on images: CNN2 on 30 images of MNIST3."""

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import torch
import xarray as xr

import bayestda as tda
from bayestda.experiments.data import subsets
from bayestda.experiments.grid import Experiment
from bayestda.experiments.networks import cnn2
from bayestda.experiments.tasks import task
from bayestda.model.examples import Data
from bayestda.model.measurements import margin
from bayestda.training.posterior import Posterior

EXPERIMENT = Experiment("cnn2", "mnist3", 10)
RECIPE = replace(EXPERIMENT.recipe, keep=1)
OBJECTIVE = tda.Classification(measurement=margin)
NUM_QUERIES = 30
SETTINGS = {"model": EXPERIMENT.model, "task": EXPERIMENT.task, **asdict(RECIPE),
            "queries": NUM_QUERIES}  # fmt: skip


def split() -> subsets.Split:
    """Load the data, with their hash."""
    return subsets.load(EXPERIMENT)


def images(num_queries: int = NUM_QUERIES) -> tuple[Data, Data]:
    """Return the training images and the queries, of all classes alike."""
    both = split()
    label = both.test.y.numpy()
    by_class = [np.flatnonzero(label == c)[: num_queries // 3] for c in np.unique(label)]
    return both.train, both.test.take(torch.from_numpy(np.concatenate(by_class)))


def trained(train: Data, seeds: Sequence[int]) -> Posterior:
    """Train runs that differ in initialisation; a batch is all 30 images."""
    return tda.train_posterior(
        lambda: cnn2(task(EXPERIMENT.task)), OBJECTIVE, train, RECIPE, seeds=seeds
    )


def shifts(posterior: Posterior, train: Data, queries: Data) -> xr.DataArray:
    """Return shifts of the margins by removal of every image, through the horizon filter."""
    return tda.shifts(posterior, OBJECTIVE, train, queries, method="flow")


def without(
    posterior: Posterior, train: Data, queries: Data, removed_RN: np.ndarray
) -> xr.DataArray:
    """Return margins (seed, ..., member, test) of the same runs, retrained without images."""
    return tda.retrained(posterior, OBJECTIVE, train, queries, weights=1.0 - removed_RN)
