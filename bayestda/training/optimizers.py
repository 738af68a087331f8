"""Compute optimisers' steps as functions of gradients, and their derivatives, to replay runs."""

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
    """Describe one step of one or more runs.

    Attributes:
        batch: Positions of the step's examples [... B].
        rate: Learning rate η.
        kept: Whether a checkpoint is kept after the step.
    """

    batch: Tensor
    rate: float
    kept: bool


def steps(recipe: Recipe, order: Tensor) -> Iterator[Step]:
    """Yield all steps of runs, in order.

    Args:
        recipe: Hyperparameters of the runs.
        order: Positions of training examples in each epoch [... E N].
    """
    rates = iter(recipe.learning_rates(order.shape[-1]))
    for epoch, order_N in enumerate(order.unbind(-2)):
        batches = order_N.split(recipe.batch_size, dim=-1)
        for number, batch in enumerate(batches, start=1):
            is_kept = number == len(batches) and epoch >= recipe.epochs - recipe.keep
            yield Step(batch, next(rates), is_kept)


class Rule(Protocol):
    """Define an optimiser: a gradient and moments give the direction u of θ ← θ − η u.

    Attributes:
        moments: Number of the optimiser's moments.
    """

    moments: ClassVar[int]

    def direction(self, gradient: Tensor, state: State, count: int, /) -> tuple[Tensor, State]:
        """Return u [..., P] of step ``count`` = 1, 2, ..., and the moments after it."""

    def derivative(
        self, gradient: Tensor, state: State, change: Tensor, moving: State, count: int, /
    ) -> tuple[Tensor, State]:
        """Return the derivatives of :meth:`direction`: du, and those of the moments after it.

        Args:
            gradient: Gradient of the step [..., P].
            state: Moments *after* the step.
            change: Derivative of the gradient [..., P].
            moving: Derivatives of the moments before the step.
            count: Number of the step, from 1.
        """

    def scale(self, state: State, count: int, /) -> Tensor | float:
        """Return D [..., P]: a constant gradient g moves θ by η D⁻¹ g in a step."""


class Adam:
    """Take steps of PyTorch's Adam."""

    moments: ClassVar[int] = 2

    def direction(self, gradient: Tensor, state: State, count: int) -> tuple[Tensor, State]:
        """Return m̂ / (√v̂ + ε), and the moments m and v after the step."""
        m = BETA1 * state[0] + (1 - BETA1) * gradient
        v = BETA2 * state[1] + (1 - BETA2) * gradient**2
        root = (v / (1 - BETA2**count)).sqrt()
        return m / (1 - BETA1**count) / (root + EPSILON), (m, v)

    def derivative(
        self, gradient: Tensor, state: State, change: Tensor, moving: State, count: int
    ) -> tuple[Tensor, State]:
        """Return the derivatives by the quotient rule."""
        (m, v), bias1, bias2 = state, 1 - BETA1**count, 1 - BETA2**count
        dm = BETA1 * moving[0] + (1 - BETA1) * change
        dv = BETA2 * moving[1] + (1 - BETA2) * 2 * gradient * change
        root = (v / bias2).sqrt()
        # Where v is 0 its derivative is 0 as well, and so is the root's; 0/0 would not be.
        droot = torch.where(v > 0, dv / bias2 / (2 * torch.where(v > 0, root, 1)), 0)
        du = dm / bias1 / (root + EPSILON) - m / bias1 * droot / (root + EPSILON) ** 2
        return du, (dm, dv)

    def scale(self, state: State, count: int) -> Tensor:
        """Return √v̂ + ε."""
        return (state[1] / (1 - BETA2**count)).sqrt() + EPSILON


class Sgd:
    """Take steps of plain gradient descent."""

    moments: ClassVar[int] = 0

    def direction(self, gradient: Tensor, state: State, _count: int) -> tuple[Tensor, State]:
        """Return the gradient."""
        return gradient, state

    def derivative(
        self, _gradient: Tensor, _state: State, change: Tensor, moving: State, _count: int
    ) -> tuple[Tensor, State]:
        """Return the derivative of the gradient."""
        return change, moving

    def scale(self, _state: State, _count: int) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class Momentum:
    """Take steps of PyTorch's SGD with momentum, without dampening.

    The moment is m ← β m + g; the direction is m, or g + β m with Nesterov's momentum.

    Attributes:
        beta: Momentum β.
        nesterov: Whether the momentum is Nesterov's.
    """

    beta: float
    nesterov: bool = False
    moments: ClassVar[int] = 1

    def direction(self, gradient: Tensor, state: State, _count: int) -> tuple[Tensor, State]:
        """Return m after the step, or g + β m."""
        m = self.beta * state[0] + gradient
        return (gradient + self.beta * m if self.nesterov else m), (m,)

    def derivative(
        self, _gradient: Tensor, _state: State, change: Tensor, moving: State, _count: int
    ) -> tuple[Tensor, State]:
        """Return the derivatives, which follow the same recursion because it is linear."""
        return self.direction(change, moving, _count)

    def scale(self, _state: State, _count: int) -> float:
        """Return 1 − β, because for a constant g the moment grows to g / (1 − β)."""
        return 1 - self.beta


def rule_of(recipe: Recipe) -> Rule:
    """Return the optimiser of a recipe, without its weight decay (:func:`decays`).

    Raises:
        UserError: The recipe clips gradients, which is not differentiated here.
    """
    if recipe.clip is not None:
        raise UserError(f"a run with clip={recipe.clip} cannot be replayed: train without clip=")
    if recipe.optimizer in ("adam", "adamw"):
        return Adam()
    return Momentum(recipe.momentum, recipe.nesterov) if recipe.momentum else Sgd()


def decays(recipe: Recipe) -> tuple[float, float]:
    """Return the weight decay added to the gradient, and the one added to the direction."""
    decoupled = recipe.optimizer == "adamw"
    return (0.0, recipe.weight_decay) if decoupled else (recipe.weight_decay, 0.0)


def mean_rate(gradient: Tensor, scale: Tensor | float) -> Tensor:
    """Return gᵀD⁻¹g / gᵀg: a plain step of this rate goes as far along g as D⁻¹g does."""
    return (gradient.square() / scale).sum() / gradient.square().sum()
