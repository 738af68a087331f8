r"""How far a recorded training goes: horizons for filters and dampings, and the optimiser's scale.

Gradient descent of rate η has gone a horizon :math:`\tau = \sum_t \eta_t`, and a ridge of
:math:`\lambda = 1/\tau` is close to what it leaves of the curvature (see
:mod:`bayestda.curvature.filters`). An optimiser that moves by :math:`\eta D_t^{-1} g_t` has gone
:math:`\tau = \sum_t \eta_t\, g_t^\top D_t^{-1} g_t / g_t^\top g_t`: plain steps of that rate go as
far along the gradients. For Adam :math:`D_t = \sqrt{\hat v_t} + \epsilon`, and the sum of learning
rates alone would be too short by a factor of a hundred.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bayestda.errors import UserError
from bayestda.model.examples import Data
from bayestda.model.objective import Objective
from bayestda.training.loop import run
from bayestda.training.members import Members
from bayestda.training.optimizers import State, decays, mean_rate, rule_of
from bayestda.training.posterior import Posterior
from bayestda.training.recipe import Recipe
from bayestda.training.recorded import held_examples, recorded_training
from bayestda.training.stacking import copies_of


@dataclass(frozen=True)
class Pace:
    """How far a run has come at a checkpoint.

    Attributes:
        horizon: τ, as if of plain gradient descent.
        rate_sum: Σ_t η_t.
        scale_P: D of the last step, in the order of θ.
    """

    horizon: float
    rate_sum: float
    scale_P: Tensor


def paces(
    network: nn.Module, objective: Objective, data: Data, recipe: Recipe, member: Members
) -> list[Pace]:
    """The pace at each kept checkpoint of one run, which is repeated to see it: one training.

    Args:
        network, objective, data, recipe: as in :func:`bayestda.training.loop.train`.
        member: the run.

    Raises:
        UserError: of the optimiser no scale is known.
    """
    rule, copies = rule_of(recipe), copies_of(network, objective, stacked=False)
    rates = recipe.learning_rates(member.num_ordered)
    per_epoch = -(-member.num_ordered // recipe.batch_size)
    kept_steps = [epoch * per_epoch for epoch in recipe.kept_epochs]
    visited = run(copies, objective, data, recipe, member)
    theta_P = next(visited).vector()[0]
    state: State = (torch.zeros_like(theta_P),) * rule.moments
    horizon, found = 0.0, []
    for count, _ in enumerate(visited, start=1):
        gradient_P = _gradient(copies.leaves()) + decays(recipe)[0] * theta_P
        _, state = rule.direction(gradient_P, state, count)
        scale = rule.scale(state, count)
        horizon += rates[count - 1] * float(mean_rate(gradient_P, scale))
        theta_P = copies.vector()[0]
        if count in kept_steps:
            scale_P = torch.as_tensor(scale).to(theta_P).expand_as(theta_P)
            found.append(Pace(horizon, sum(rates[:count]), scale_P))
    return found


def _gradient(leaves: list[Tensor]) -> Tensor:
    """Of the loss of the last step [P]; stays with the leaves until the next one."""
    return torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in leaves]
    )


def recorded_paces(posterior: Posterior, objective: Objective, train: Any, seed: int) -> list[Pace]:
    """Return how far the run of a seed had come at its checkpoints (:func:`paces`).

    Raises:
        UserError: the posterior was trained elsewhere, or on another number of examples.
    """
    training, held = recorded_training(posterior), held_examples(posterior, train)
    num_train = training.order[seed].shape[-1]
    if len(held) != num_train:
        raise UserError(
            f"the training's horizon is that of its {num_train} examples, and train has "
            f"{len(held)}: give the examples that were trained on, or a number for damping"
        )
    weight_1N = torch.ones(1, num_train, dtype=next(posterior.build().parameters()).dtype)
    member = training.members(seed, weight_1N, held.y.device)
    return paces(posterior.build(), objective, held, training.recipe, member)
