r"""Measure how far a recorded training goes: its horizon, and the optimiser's scale.

Plain gradient descent with rates :math:`\eta_t` has the horizon :math:`\tau = \sum_t \eta_t`. A
ridge of :math:`\lambda = 1/\tau` then acts much like stopping there (see
:mod:`bayestda.curvature.filters`). An optimiser that moves by :math:`\eta D_t^{-1} g_t` has
:math:`\tau = \sum_t \eta_t\, g_t^\top D_t^{-1} g_t / g_t^\top g_t`: plain steps of these rates go
as far along the gradients. For Adam :math:`D_t = \sqrt{\hat v_t} + \epsilon`, and the sum of
learning rates alone would be too short by a factor of a hundred.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bayestda.errors import UserError
from bayestda.model.examples import Data
from bayestda.model.objective import Objective
from bayestda.model.parameters import first_trained
from bayestda.training.loop import run
from bayestda.training.members import Members
from bayestda.training.optimizers import State, decays, mean_rate, rule_of
from bayestda.training.posterior import Posterior
from bayestda.training.recipe import Recipe
from bayestda.training.recorded import held_examples, recorded_training
from bayestda.training.stacking import copies_of


@dataclass(frozen=True)
class Pace:
    """Say how far a run has come at a checkpoint.

    Attributes:
        horizon: Horizon τ of plain gradient descent that would have come as far.
        rate_sum: Sum of the learning rates, Σ_t η_t.
        scale_P: Scale D of the last step, in the order of θ.
    """

    horizon: float
    rate_sum: float
    scale_P: Tensor


def paces(
    network: nn.Module, objective: Objective, data: Data, recipe: Recipe, member: Members
) -> list[Pace]:
    """Return the pace at each kept checkpoint of one run, by repeating the run once.

    Args:
        network: The architecture; it is copied.
        objective: The objective with the per-example loss.
        data: Training examples, on the device to train on.
        recipe: Hyperparameters of the run.
        member: The run, as a single member.

    Raises:
        UserError: The optimiser has no known scale.
    """
    rule, copies = rule_of(recipe), copies_of(network, objective, data, stacked=False)
    rates = recipe.learning_rates(member.num_ordered)
    per_epoch = -(-member.num_ordered // recipe.batch_size)
    kept_steps = [epoch * per_epoch for epoch in recipe.kept_epochs]
    training = run(copies, objective, data, recipe, member)
    theta_P = next(training).vector()[0]  # the first item is before the first step
    state: State = (torch.zeros_like(theta_P),) * rule.moments
    horizon, checkpoint_paces = 0.0, []
    for count, _ in enumerate(training, start=1):
        # The optimiser keeps its moments to itself: they are computed again from the gradients.
        gradient_P = _gradient(copies.leaves()) + decays(recipe)[0] * theta_P
        _, state = rule.direction(gradient_P, state, count)
        scale = rule.scale(state, count)
        horizon += rates[count - 1] * float(mean_rate(gradient_P, scale))
        theta_P = copies.vector()[0]
        if count in kept_steps:
            # Of SGD the scale is one number for all parameters.
            scale_P = torch.as_tensor(scale).to(theta_P).expand_as(theta_P)
            checkpoint_paces.append(Pace(horizon, sum(rates[:count]), scale_P))
    return checkpoint_paces


def _gradient(leaves: list[Tensor]) -> Tensor:
    """Gradient of the last step's loss [P], which the leaves keep until the next step."""
    return torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in leaves]
    )


def recorded_paces(posterior: Posterior, objective: Objective, train: Any, seed: int) -> list[Pace]:
    """Return how far the run of a seed had come at its checkpoints (:func:`paces`).

    Args:
        posterior: Samples from :func:`tda.train_posterior`.
        objective: The objective of the training.
        train: Examples that were trained on, in their order.
        seed: Name of the run.

    Raises:
        UserError: The posterior was trained elsewhere, or on another number of examples.
    """
    training, train_data = recorded_training(posterior), held_examples(posterior, objective, train)
    num_train = training.order[seed].shape[-1]
    if len(train_data) != num_train:
        raise UserError(
            f"the training had {num_train} examples, and train has {len(train_data)}, so its "
            "horizon is not known: give the examples that were trained on, or a number for damping"
        )
    network = posterior.template(seed)
    weight_1N = torch.ones(1, num_train, dtype=first_trained(network).dtype)
    member = training.members(seed, weight_1N, train_data.y.device)
    return paces(network, objective, train_data, training.recipe, member)


def adam_horizon(
    rate_sum: float,
    second_moments: Iterable[Tensor],
    *,
    step: int,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> float:
    r"""Return the horizon τ of a run of Adam or AdamW, from what its optimiser remembers.

    With the second moments :math:`\hat v` in place of the squared gradients the pace of the module
    is :math:`\sum_p \hat v_p / (\sqrt{\hat v_p} + \epsilon) / \sum_p \hat v_p`, and
    τ is that times :math:`\sum_t \eta_t`. It takes the last steps' pace for all steps.

    Args:
        rate_sum: Sum of the learning rates up to the checkpoint.
        second_moments: ``exp_avg_sq`` of every trained parameter, such as ``[state["exp_avg_sq"]
            for state in optimizer.state.values()]``.
        step: Number of steps that the optimiser has taken.
        beta2, epsilon: Settings of the optimiser.

    Raises:
        UserError: The moments are not those of a run: empty, negative, or all 0.
    """
    correction = 1 - beta2**step
    moments = [tensor.detach().double().flatten() / correction for tensor in second_moments]
    v_P = torch.cat(moments) if moments else torch.zeros(0)
    if step < 1 or not v_P.isfinite().all() or not (v_P >= 0).all() or not v_P.any():
        raise UserError(
            "second moments must be exp_avg_sq of all trained parameters after at least one step: "
            'give [state["exp_avg_sq"] for state in optimizer.state.values()] and step='
        )
    return float(rate_sum * (v_P / (v_P.sqrt() + epsilon)).sum() / v_P.sum())
