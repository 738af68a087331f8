"""CIFAR-10: training without the images that single runs, or their mean, find least helpful."""

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
from bayestda.training import loop

EXPERIMENT = Experiment("cnn2", "cifar10", 10)
RECIPE = replace(EXPERIMENT.recipe, keep=1)
OBJECTIVE = tda.Classification()
NUM_VALIDATION, SHARES = 100, (0.1, 0.2, 0.3, 0.4, 0.5)
RULES = ("single", "averaged", "random")


def make(num_runs: int) -> xr.Dataset:
    """Return scores, and loss and accuracy without the images that each rule removes."""
    split, seeds = subsets.load(EXPERIMENT), range(2 * num_runs)
    shuffled = torch.from_numpy(np.random.default_rng(0).permutation(len(split.test)))
    validation, test = (split.test.take(part) for part in shuffled.tensor_split([NUM_VALIDATION]))
    first, second = (
        tda.train_posterior(build, OBJECTIVE, split.train, RECIPE, seeds=part)
        for part in (seeds[:num_runs], seeds[num_runs:])
    )
    scores = tda.attribute(first, OBJECTIVE, split.train, validation, method="flow")
    scores_SN = scores.isel(checkpoint=0).sum("test").transpose("seed", "train").values
    quality = [
        trained_without(second, seed, split.train, test, removed(scores_SN, run))
        for run, seed in enumerate(second.seeds)
    ]
    loss, accuracy = np.stack(quality, axis=1).reshape(2, num_runs, -1)
    pruned = (num_runs, len(RULES), len(SHARES))
    dims = ("run", "rule", "share")
    return xr.Dataset({
        "score": (("run", "train"), scores_SN),
        "loss": (dims, loss[:, 1:].reshape(pruned)),
        "accuracy": (dims, accuracy[:, 1:].reshape(pruned)),
        "whole_loss": ("run", loss[:, 0]),
        "whole_accuracy": ("run", accuracy[:, 0]),
    }).assign_coords(rule=list(RULES), share=list(SHARES))  # fmt: skip


def build() -> torch.nn.Module:
    """Build a CNN2 for CIFAR-10."""
    return cnn2(task(EXPERIMENT.task))


def removed(scores_SN: np.ndarray, run: int) -> np.ndarray:
    """Return what is removed [1 + rules · shares, N] in one run; first nothing."""
    num_train = scores_SN.shape[1]
    at_random = np.random.default_rng(run).permutation(num_train)
    orders = (scores_SN[run].argsort(), scores_SN.mean(0).argsort(), at_random)
    masks = [np.zeros(num_train, dtype=bool)]
    for order_N in orders:
        for share in SHARES:
            masks.append(np.isin(np.arange(num_train), order_N[: round(share * num_train)]))
    return np.stack(masks)


def trained_without(
    posterior: tda.Posterior, seed: int, train: Data, test: Data, removed_RN: np.ndarray
) -> np.ndarray:
    """Return loss and accuracy [2 R] of the run of a seed, repeated without some images."""
    template, training = build(), posterior.training
    assert training is not None
    weight_RN = torch.from_numpy(1.0 - removed_RN).float()
    members = training.members(seed, weight_RN, train.y.device)
    found = []
    for _, theta_CRP in loop.train(template, OBJECTIVE, train, RECIPE, members):
        output_MK = loop.output(template, OBJECTIVE, theta_CRP[-1], test)[0]
        loss_M, right_M = OBJECTIVE.loss(output_MK, test.y), output_MK.argmax(-1) == test.y
        found.append((float(loss_M.mean()), float(right_M.double().mean())))
    return np.array(found).T


def data() -> subsets.Split:
    """Load the data, with their hash."""
    return subsets.load(EXPERIMENT)


SETTINGS = {
    **asdict(RECIPE), "model": EXPERIMENT.model, "task": EXPERIMENT.task,
    "validation": NUM_VALIDATION, "shares": SHARES,
}  # fmt: skip
