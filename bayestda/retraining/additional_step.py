"""Additional training step: what one more optimiser step on z_j does to the loss on z."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import xarray as xr
from torch import Tensor, nn

from bayestda.model.examples import Data, labels
from bayestda.model.objective import Objective
from bayestda.model.parameters import Parameters
from bayestda.training.loop import losses, train
from bayestda.training.members import Members
from bayestda.training.posterior import Posterior
from bayestda.training.recipe import Recipe
from bayestda.training.recorded import held_examples, recorded_training


def step_recipe(recipe: Recipe, optimizer: str) -> Recipe:
    """One step on one example, by a fresh optimiser at the training's learning rate.

    The paper's text defines a step of gradient descent (``sgd``); the released code takes a fresh
    Adam step (``adam``), whose first step is lr · sign(∇L + wd·θ) in every coordinate.
    """
    step = Recipe(epochs=1, batch_size=1, keep=1, optimizer=optimizer)
    return replace(step, lr=recipe.lr, weight_decay=recipe.weight_decay)


def additional_training_step(
    network: nn.Module,
    objective: Objective,
    theta_P: Tensor,
    recipe: Recipe,
    *,
    examples: Data,
    test: Data,
    chunk: int = 1,
) -> Tensor:
    r"""Scores [N M]: :math:`g(z; \theta) - g(z; \theta_{+j})`; positive = helpful.

    Pruthi et al. 2020; Nguyen et al. 2023, section 2, with the sign turned. N gradients, N·M
    forward passes.

    Args:
        network: the architecture.
        objective: gives the loss.
        theta_P: the sample of θ.
        recipe: from :func:`step_recipe`.
        examples: the training examples z_j to step on [N].
        test: test examples [M].
        chunk: members stepped together; changes only the speed.
    """
    num_train = len(examples.y)
    members = Members(
        initial=theta_P[None],
        order=torch.arange(num_train, device=theta_P.device)[:, None, None],
        weight=torch.ones(num_train, num_train, device=theta_P.device),
    )
    stacked = chunk > 1
    base_1M = losses(network, objective, theta_P[None], test, stacked=stacked)
    stepped = [
        losses(network, objective, theta_1RP[0], test, stacked=stacked)
        for _, theta_1RP in train(network, objective, examples, recipe, members, chunk=chunk)
    ]
    return base_1M - torch.cat(stepped)


def additional_step(
    posterior: Posterior, objective: Objective, train: Any, test: Any, *, optimizer: str = "adam"
) -> xr.DataArray:
    """Measurement before less that after one more step on each example: positive = helpful.

    Args:
        posterior, objective, train, test: as in :func:`leave_one_out`.
        optimizer: of the step; ``adam`` is a fresh one, whose first step is lr · sign(gradient).

    Returns:
        Dims (seed, checkpoint, train, test). See :mod:`bayestda.retraining.additional_step`.
    """
    recipe = step_recipe(recorded_training(posterior).recipe, optimizer)
    held, queries = held_examples(posterior, train), held_examples(posterior, test)

    def score(seed: int, place: int) -> Tensor:
        network = posterior.network(seed, place)
        return additional_training_step(
            network, objective, Parameters(network).read(network), recipe,
            examples=held, test=queries,
        )  # fmt: skip

    scores = _each(posterior, score)
    coords = {**labels("train", held), **labels("test", queries)}
    dims = ("seed", "checkpoint", "train", "test")
    coords |= {"seed": list(posterior.seeds), "checkpoint": list(posterior.checkpoints)}
    return xr.DataArray(scores.cpu().numpy(), dims=dims, coords=coords, name="ats")


def _each(posterior: Posterior, score: Callable[[int, int], Tensor]) -> Tensor:
    places: Sequence[int] = range(len(posterior.checkpoints))
    runs = [torch.stack([score(seed, place) for place in places]) for seed in posterior.seeds]
    return torch.stack(runs)
