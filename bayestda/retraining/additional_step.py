"""Take an additional training step (ATS) on z_j, and measure what it does to the loss on z."""

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
from bayestda.training.recorded import looked_examples, recorded_training


def step_recipe(recipe: Recipe, optimizer: str) -> Recipe:
    """Return the recipe of one step on one example, at the training's learning rate.

    The paper's text defines a step of gradient descent (``sgd``). The released code takes the
    first step of a fresh Adam (``adam``), which is lr · sign(∇L + wd·θ) in every coordinate.

    Args:
        recipe: Hyperparameters of the training.
        optimizer: Name of the optimiser of the step.
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
    r"""Return scores [N M], :math:`g(z; \theta) - g(z; \theta_{+j})`; positive = helpful.

    Source: Pruthi et al. 2020; Nguyen et al. 2023, section 2, with the sign turned. The cost is N
    gradients and N·M forward passes.

    Args:
        network: The architecture; it is copied.
        objective: The objective with the loss and the measurement g.
        theta_P: Parameters to start from.
        recipe: Hyperparameters from :func:`step_recipe`.
        examples: Training examples z_j to step on [N].
        test: Test examples [M].
        chunk: Number of members stepped together; changes only the speed.
    """
    num_train = len(examples.y)
    # Member j has one epoch of one batch, which is example j alone.
    members = Members(
        initial=theta_P[None],
        order=torch.arange(num_train, device=theta_P.device)[:, None, None],
        weight=torch.ones(num_train, num_train, device=theta_P.device),
    )
    stacked = chunk > 1
    base_1M = losses(network, objective, theta_P[None], test, stacked=stacked)
    loss_parts = [
        losses(network, objective, theta_1RP[0], test, stacked=stacked)
        for _, theta_1RP in train(network, objective, examples, recipe, members, chunk=chunk)
    ]
    return base_1M - torch.cat(loss_parts)


def additional_step(
    posterior: Posterior, objective: Objective, train: Any, test: Any, *, optimizer: str = "adam"
) -> xr.DataArray:
    """Return scores from one more training step on each example: positive = helpful.

    A score is the measurement before the step less that after it
    (:func:`bayestda.retraining.additional_step.additional_training_step`).

    Args:
        posterior: Samples from :func:`tda.train_posterior`.
        objective: The objective of the training.
        train: Examples to step on.
        test: Test examples, in a form of :func:`tda.attribute`.
        optimizer: Name of the step's optimiser; ``adam`` is a fresh one, whose first step is
            lr · sign(gradient).

    Returns:
        Scores with dims (seed, checkpoint, train, test).

    Raises:
        UserError: The posterior was trained elsewhere, or the optimiser is unknown.
    """
    recipe = step_recipe(recorded_training(posterior).recipe, optimizer)
    train_data, test_data = looked_examples(posterior, objective, train, test)
    rows = []
    for seed in posterior.seeds:
        for place in range(len(posterior.checkpoints)):
            network = posterior.network(seed, place)
            theta_P = Parameters(network).read(network)
            rows.append(additional_training_step(
                network, objective, theta_P, recipe, examples=train_data, test=test_data,
            ))  # fmt: skip
    scores = torch.stack(rows).unflatten(0, (len(posterior.seeds), len(posterior.checkpoints)))
    coords = {**labels("train", train_data), **labels("test", test_data)}
    dims = ("seed", "checkpoint", "train", "test")
    coords |= {"seed": list(posterior.seeds), "checkpoint": list(posterior.checkpoints)}
    return xr.DataArray(scores.cpu().numpy(), dims=dims, coords=coords, name="ats")
