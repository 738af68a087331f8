"""Differentiate the gradient of a training batch in θ and in the examples' weights.

With the loss (1/B) Σ w ℓ of a batch, its gradient g, and a member that moves θ by r and w by d, it
is dg = ∂g/∂θ r + ∂g/∂w d. There are several ways to it; the first one that is right is used
(:mod:`bayestda.model.second_derivatives`). Letters: S runs, R members, B batch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, jvp, vmap

from bayestda.model.calls import output_at
from bayestda.model.inputs import rows_of
from bayestda.model.objective import Objective
from bayestda.model.parameters import Parameters
from bayestda.model.second_derivatives import (
    Differences,
    agrees,
    differences,
    first_right,
    load_forward_mode,
    probe,
)
from bayestda.model.written_out import twice_differentiable, written_out

Batch = tuple[Any, Tensor]  # inputs and targets
Way = Callable[..., Any]
TOGETHER = 128  # members in one batched backward pass; changes only speed and memory
_MEND = (
    'use tda.replay(kind="linearised"), which needs no second derivative of the network, or '
    "tda.leave_one_out, or write the layer or loss in operations of torch that can be "
    "differentiated twice"
)


class BatchDerivatives:
    """Differentiate the gradients of one network's batches.

    Args:
        network: The network in evaluation mode; its parameters do not matter.
        objective: The objective, which gives the loss and the measurement.
    """

    def __init__(self, network: nn.Module, objective: Objective):
        load_forward_mode()
        self.network, self.objective, self.layout = network, objective, Parameters(network)
        self._way: Way | None = None

    def changes(
        self, theta_SP: Tensor, shift_SRP: Tensor, direction_SRB: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        """Return g [S P] and dg [S R P] of the runs' batches.

        Args:
            theta_SP: Parameters θ of the runs.
            shift_SRP: Members' directions r.
            direction_SRB: Members' directions d.
            batch: Inputs [S B ...] and targets [S B ...].

        Raises:
            UserError: No way to dg is right for this network and loss.
        """
        if self._way is None:
            self._way = self._right_way(theta_SP, batch)
        return self._way(theta_SP, shift_SRP, direction_SRB, batch)

    def _right_way(self, theta_SP: Tensor, batch: Batch) -> Way:
        # Two runs with two members each: under vmap some layers are right for the first one alone.
        theta_2P, batch_2 = theta_SP[[0, -1]], _pick(batch, [0, -1])
        size, count = batch_2[1].shape[1], theta_SP.shape[1]
        length = theta_2P.square().mean().sqrt()
        shift_22P = probe(theta_2P, (2,)).transpose(0, 1) * torch.where(length > 0, length, 1)
        direction_22B = probe(theta_2P.new_zeros(size), (2, 2))
        last = _pick(batch_2, -1)
        gradient = self._plain_gradient(theta_2P[-1], theta_2P.new_ones(size), last)
        wanted = differences(
            lambda v: self._plain_gradient(v[:count], v[count:], last),
            torch.cat([theta_2P[-1], theta_2P.new_ones(size)]),
            torch.cat([shift_22P[-1, -1], direction_22B[-1, -1]]),
        )

        def is_right(way: Way) -> bool:
            gradient_2P, change_22P = way(theta_2P, shift_22P, direction_22B, batch_2)
            same = agrees(gradient_2P[-1], Differences(gradient, 0.0))
            return same and agrees(change_22P[-1, -1], wanted)

        ways: dict[str, Way] = {
            "forward mode and vmap": self._stacked,
            "batched double backward passes": partial(self._apart, batched=True),
            "double backward passes": partial(self._apart, batched=False),
            "double backward passes with layers written out": self._written,
        }
        return first_right(ways, is_right, "the derivative of a training step", _MEND)

    def _stacked(
        self, theta_SP: Tensor, shift_SRP: Tensor, direction_SRB: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        with twice_differentiable():
            return vmap(self._forward_mode)(theta_SP, shift_SRP, direction_SRB, batch)

    def _forward_mode(
        self, theta_P: Tensor, shift_RP: Tensor, direction_RB: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        gradient = grad(partial(self._loss, batch))
        weight_B = torch.ones_like(direction_RB[0])

        def change(shift_P: Tensor, direction_B: Tensor) -> Tensor:
            return jvp(gradient, (theta_P, weight_B), (shift_P, direction_B))[1]

        return gradient(theta_P, weight_B), vmap(change)(shift_RP, direction_RB)

    def _apart(
        self,
        theta_SP: Tensor,
        shift_SRP: Tensor,
        direction_SRB: Tensor,
        batch: Batch,
        batched: bool,
    ) -> tuple[Tensor, Tensor]:
        pairs = [
            self._double_backward(
                theta_P, (shift_SRP[s], direction_SRB[s]), _pick(batch, s), batched
            )
            for s, theta_P in enumerate(theta_SP)
        ]
        gradients, changes = zip(*pairs, strict=True)
        return torch.stack(gradients), torch.stack(changes)

    def _written(
        self, theta_SP: Tensor, shift_SRP: Tensor, direction_SRB: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        with written_out():
            return self._apart(theta_SP, shift_SRP, direction_SRB, batch, batched=False)

    def _double_backward(
        self, theta_P: Tensor, members: tuple[Tensor, Tensor], batch: Batch, batched: bool
    ) -> tuple[Tensor, Tensor]:
        """g [P] and dg [R P] of one run: dg is the derivative of g·r + ∂ℓ/∂w·d in θ."""
        theta_P = theta_P.detach().requires_grad_()
        weight_B = torch.ones_like(members[1][0]).requires_grad_()
        with torch.enable_grad(), twice_differentiable():
            loss = self._loss(batch, theta_P, weight_B)
            slopes = torch.autograd.grad(loss, (theta_P, weight_B), create_graph=True)
        moving = [(g, m) for g, m in zip(slopes, members, strict=True) if g.requires_grad]
        pulled = partial(
            torch.autograd.grad, [g for g, _ in moving], theta_P, retain_graph=True,
            allow_unused=True, materialize_grads=True, is_grads_batched=batched,
        )  # fmt: skip
        pieces = [m.split(TOGETHER) if batched else m.unbind() for _, m in moving]
        found = [pulled(piece)[0] for piece in zip(*pieces, strict=True)]
        return slopes[0].detach(), torch.cat(found) if batched else torch.stack(found)

    def _plain_gradient(self, theta_P: Tensor, weight_B: Tensor, batch: Batch) -> Tensor:
        leaf_P = theta_P.detach().requires_grad_()
        with torch.enable_grad(), twice_differentiable():
            return torch.autograd.grad(self._loss(batch, leaf_P, weight_B), leaf_P)[0]

    def _loss(self, batch: Batch, theta_P: Tensor, weight_B: Tensor) -> Tensor:
        """(1/B) Σ w ℓ."""
        x_B, y_B = batch
        output_BK = output_at(self.network, self.objective, self.layout.split(theta_P), x_B)
        return (weight_B * self.objective.loss(output_BK, y_B)).mean()


def _pick(batch: Batch, runs: Any) -> Batch:
    """Return the batch of one run, or of several."""
    return rows_of(batch[0], runs), batch[1][runs]
