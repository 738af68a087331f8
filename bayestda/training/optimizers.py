"""Optimisers as functions of gradients, and their derivatives: what replays of a run need."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from bayestda.errors import UserError
from bayestda.training.recipe import Recipe

State = tuple[Tensor, ...]  # an optimiser's moments, each [..., P]
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Adam's, as PyTorch's defaults


@dataclass(frozen=True)
class Step:
    """One step of a run, or of runs: positions of its examples [... B], η, whether it is kept."""

    batch: Tensor
    rate: float
    kept: bool


def steps(recipe: Recipe, order: Tensor) -> Iterator[Step]:
    """All steps of runs with the data orders [... E N], in order."""
    rates = iter(recipe.learning_rates(order.shape[-1]))
    for epoch, order_N in enumerate(order.unbind(-2)):
        batches = order_N.split(recipe.batch_size, dim=-1)
        for place, batch in enumerate(batches, start=1):
            kept = place == len(batches) and epoch >= recipe.epochs - recipe.keep
            yield Step(batch, next(rates), kept)


class Rule(Protocol):
    """An optimiser: from a gradient and its moments to the direction u of θ ← θ − η u.

    Attributes:
        moments: how many it has.
    """

    moments: ClassVar[int]

    def direction(self, gradient: Tensor, state: State, count: int, /) -> tuple[Tensor, State]:
        """u [..., P] of step ``count`` = 1, 2, ..., and the moments after it."""

    def derivative(
        self, gradient: Tensor, state: State, change: Tensor, moving: State, count: int, /
    ) -> tuple[Tensor, State]:
        """Derivatives of both, given those of gradient and moments, and the moments *after*."""

    def scale(self, state: State, count: int, /) -> Tensor | float:
        """D, with which a gradient that stays as it is moves θ by η D⁻¹ g a step."""


class Adam:
    """PyTorch's Adam."""

    moments: ClassVar[int] = 2

    def direction(self, gradient: Tensor, state: State, count: int) -> tuple[Tensor, State]:
        """m̂ / (√v̂ + ε)."""
        m = BETA1 * state[0] + (1 - BETA1) * gradient
        v = BETA2 * state[1] + (1 - BETA2) * gradient**2
        root = (v / (1 - BETA2**count)).sqrt()
        return m / (1 - BETA1**count) / (root + EPSILON), (m, v)

    def derivative(
        self, gradient: Tensor, state: State, change: Tensor, moving: State, count: int
    ) -> tuple[Tensor, State]:
        """By the quotient rule."""
        (m, v), bias1, bias2 = state, 1 - BETA1**count, 1 - BETA2**count
        dm = BETA1 * moving[0] + (1 - BETA1) * change
        dv = BETA2 * moving[1] + (1 - BETA2) * 2 * gradient * change
        root = (v / bias2).sqrt()
        # Where v is 0, its change is, and the root does not move.
        droot = torch.where(v > 0, dv / bias2 / (2 * torch.where(v > 0, root, 1)), 0)
        turned = dm / bias1 / (root + EPSILON) - m / bias1 * droot / (root + EPSILON) ** 2
        return turned, (dm, dv)

    def scale(self, state: State, count: int) -> Tensor:
        """√v̂ + ε."""
        return (state[1] / (1 - BETA2**count)).sqrt() + EPSILON


class Sgd:
    """Plain gradient descent."""

    moments: ClassVar[int] = 0

    def direction(self, gradient: Tensor, state: State, _count: int) -> tuple[Tensor, State]:
        """The gradient."""
        return gradient, state

    def derivative(
        self, _gradient: Tensor, _state: State, change: Tensor, moving: State, _count: int
    ) -> tuple[Tensor, State]:
        """The gradient's change."""
        return change, moving

    def scale(self, _state: State, _count: int) -> float:
        """1."""
        return 1.0


@dataclass(frozen=True)
class Momentum:
    """PyTorch's SGD with momentum β, not dampened: m ← β m + g; the direction is m, or g + β m."""

    beta: float
    nesterov: bool = False
    moments: ClassVar[int] = 1

    def direction(self, gradient: Tensor, state: State, _count: int) -> tuple[Tensor, State]:
        """The moment m after the step, or Nesterov's."""
        m = self.beta * state[0] + gradient
        return (gradient + self.beta * m if self.nesterov else m), (m,)

    def derivative(
        self, _gradient: Tensor, _state: State, change: Tensor, moving: State, _count: int
    ) -> tuple[Tensor, State]:
        """Linear: the same recursion."""
        return self.direction(change, moving, _count)

    def scale(self, _state: State, _count: int) -> float:
        """1 − β: the moment grows to g / (1 − β)."""
        return 1 - self.beta


def rule_of(recipe: Recipe) -> Rule:
    """The optimiser of a recipe, but for weight decay (:func:`decays`).

    Raises:
        UserError: the recipe clips gradients, which is not differentiated here.
    """
    if recipe.clip is not None:
        raise UserError(f"a run with clip={recipe.clip} is not replayed: train without clip=")
    if recipe.optimizer in ("adam", "adamw"):
        return Adam()
    return Momentum(recipe.momentum, recipe.nesterov) if recipe.momentum else Sgd()


def decays(recipe: Recipe) -> tuple[float, float]:
    """Weight decay that is added to the gradient, and that which is added to the direction."""
    decoupled = recipe.optimizer == "adamw"
    return (0.0, recipe.weight_decay) if decoupled else (recipe.weight_decay, 0.0)


def mean_rate(gradient: Tensor, scale: Tensor | float) -> Tensor:
    """gᵀD⁻¹g / gᵀg: plain gradient descent of this rate goes as far along g as steps of D⁻¹g."""
    return (gradient.square() / scale).sum() / gradient.square().sum()
