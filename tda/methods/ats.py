"""Additional training step: what one more optimiser step on z_j does to the loss on z."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from tda.ensemble import losses, train
from tda.examples import Data
from tda.experiments import Recipe
from tda.members import Members
from tda.objective import Objective


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
