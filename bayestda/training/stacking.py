"""Run copies of one network with different parameters: side by side, or one at a time."""

import re
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from bayestda.errors import UserError, out_of_memory
from bayestda.model.calls import output_at, outputs
from bayestda.model.examples import Data, Examples
from bayestda.model.inputs import length, rows_of
from bayestda.model.layouts import fast_copy
from bayestda.model.objective import Objective
from bayestda.model.parameters import Parameters, private_copy
from bayestda.model.precision import matmul_precision
from bayestda.model.second_derivatives import Differences, agrees, probe
from bayestda.training.stacked_mlp import Perceptrons, fits


class Single:
    """Run one copy at a time, in the layout of :func:`bayestda.model.layouts.fast_copy`.

    Args:
        network: The architecture; it is copied.
        objective: The objective that calls it.
        data: Examples that it will be called on.
    """

    def __init__(self, network: nn.Module, objective: Objective, data: Examples):
        self.network, self.objective = fast_copy(network, objective, data), objective
        self.layout = Parameters(network)

    def start(self, theta_1P: Tensor, _members: int = 1) -> None:
        """Take over the parameters θ [1 P]."""
        self.layout.write(self.network, theta_1P[0])

    def leaves(self) -> list[Tensor]:
        """Return the tensors that an optimiser steps: the parameters."""
        return [self.network.get_parameter(name) for name in self.layout.shapes]

    def __call__(self, x_1B: Any) -> Tensor:
        """Return outputs [1 B K] for inputs with a leading 1."""
        return outputs(self.network, self.objective, rows_of(x_1B, 0))[None]

    def vector(self) -> Tensor:
        """Return a copy of θ [1 P]."""
        return self.layout.read(self.network)[None]


class Stacked:
    """Run R copies at once by ``vmap``; inputs with a leading 1 are shared by all of them.

    Args:
        network: The architecture; it is copied.
        objective: The objective that calls it.
    """

    def __init__(self, network: nn.Module, objective: Objective):
        self.network, self.objective = private_copy(network), objective
        self.layout = Parameters(network)

    def start(self, theta: Tensor, members: int = 1) -> None:
        """Take over the parameters θ [R P], or [1 P] for all members."""
        expanded = theta.expand(max(members, len(theta)), -1)
        self.named = {
            name: value.clone().requires_grad_()
            for name, value in self.layout.split(expanded).items()
        }

    def leaves(self) -> list[Tensor]:
        """Return the tensors that an optimiser steps: parameters with a leading dim R."""
        return list(self.named.values())

    def __call__(self, x: Any) -> Tensor:
        """Return outputs [R B K] for inputs with a leading R, or a 1 if all members share them.

        Raises:
            UserError: PyTorch cannot call one of the network's layers on stacked weights.
        """
        is_shared = length(x) == 1
        forward = vmap(
            partial(output_at, self.network, self.objective),
            in_dims=(0, None if is_shared else 0),
            randomness="same",  # one dropout mask for all members
        )
        try:
            return forward(self.named, rows_of(x, 0) if is_shared else x)
        except RuntimeError as error:
            # PyTorch has no type of its own for this error, only these words.
            if not re.search("vmap|batching rule", str(error), re.IGNORECASE):
                raise
            raise UserError(
                f"copies of this network cannot be stacked ({error}): give chunk=1, which trains "
                "one at a time"
            ) from error

    def vector(self) -> Tensor:
        """Return a copy of θ [R P]."""
        return self.layout.join({name: value.detach() for name, value in self.named.items()})


Copies = Single | Stacked | Perceptrons


def copies_of(network: nn.Module, objective: Objective, data: Examples, *, stacked: bool) -> Copies:
    """Return copies of a network, to be started with parameters.

    Args:
        network: The architecture; it is copied.
        objective: The objective that calls it.
        data: Examples that it will be called on.
        stacked: Whether copies run side by side. One at a time is faster for a CNN on a CPU.
    """
    if not stacked:
        return Single(network, objective, data)
    return (Perceptrons if fits(network, objective) else Stacked)(network, objective)


def stacks(
    network: nn.Module, objective: Objective, data: Examples, *, shared: bool = True
) -> bool:
    """Return whether stacked copies give the outputs and gradients that each gives alone.

    Some networks do not go through ``vmap``, and some are wrong there. Two copies are compared on
    a few examples.

    Args:
        network: The architecture; it is copied.
        objective: The objective with the loss.
        data: Examples, of which three are looked at.
        shared: Whether all copies see the same examples. A network whose ways depend on its inputs
            can be stacked only then.
    """
    if fits(network, objective):
        return True
    few, theta_P = data.take(slice(3)), Parameters(network).read(network)
    length = theta_P.square().mean().sqrt()
    theta_2P = torch.stack([theta_P, theta_P + 0.01 * length * probe(theta_P)])
    single, stacked = Single(network, objective, few), Stacked(network, objective)
    same_B = torch.arange(len(few), device=few.y.device)
    batch_2B = torch.stack([same_B, same_B if shared else same_B.flip(0)])
    pairs = zip(theta_2P.split(1), batch_2B.split(1), strict=True)
    wanted = [_values(single, objective, few, *pair) for pair in pairs]
    try:
        found_2 = _values(stacked, objective, few, theta_2P, batch_2B[:1] if shared else batch_2B)
    except Exception as error:  # layers and functorch raise errors of any type
        if out_of_memory(error):
            raise
        return False
    alone = [torch.cat(values) for values in zip(*wanted, strict=True)]
    # The coarsest type decides, such as bfloat16's of outputs under autocast.
    kinds = {theta_P.dtype, *(right.dtype for rights in alone for right in rights)}
    rounding = max(torch.finfo(kind).eps for kind in kinds) ** 0.5
    return all(
        agrees(found, Differences(right, rounding * float(right.norm())))
        for both, rights in zip(found_2, alone, strict=True)
        for found, right in zip(both, rights, strict=True)
    )


def require_stacking(
    network: nn.Module, objective: Objective, data: Examples, *, shared: bool
) -> None:
    """Refuse a network whose stacked copies do not give what each gives alone.

    Args:
        network, objective, data, shared: As of :func:`stacks`.

    Raises:
        UserError: They do not.
    """
    if not stacks(network, objective, data, shared=shared):
        raise UserError(
            "copies of this network cannot be stacked, because torch.func.vmap does not go through "
            "it, or is wrong: give chunk=1, which trains one at a time"
        )


def _values(
    copies: Copies, objective: Objective, data: Data, theta_RP: Tensor, batch: Tensor
) -> tuple[Tensor, Tensor]:
    """Outputs [R B K] of copies in evaluation mode, and gradients [R P] of their summed losses."""
    copies.start(theta_RP, len(theta_RP))
    copies.network.eval()
    with matmul_precision(tf32=False), torch.enable_grad():
        output_RBK = copies(rows_of(data.x, batch))
        targets = data.y[batch].expand(len(theta_RP), *data.y[batch].shape[1:])
        losses = [objective.loss(*pair) for pair in zip(output_RBK, targets, strict=True)]
        total = torch.stack(losses).sum()
        leaves = copies.leaves()
        gradients = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
    sides = [gradient.reshape(len(theta_RP), -1) for gradient in gradients]
    return output_RBK.detach(), torch.cat(sides, dim=1)
