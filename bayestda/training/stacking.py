"""Run copies of one network with different parameters: side by side, or one at a time."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.func import vmap

from bayestda.errors import UserError
from bayestda.model.examples import rows_of
from bayestda.model.objective import Objective, output_at
from bayestda.model.parameters import Parameters, channels_last_copy, private_copy
from bayestda.training.stacked_mlp import Perceptrons, fits


class Single:
    """Run one copy at a time, with convolutions in channels-last layout.

    Args:
        network: The architecture; it is copied.
        objective: The objective that calls it.
    """

    def __init__(self, network: nn.Module, objective: Objective):
        self.network, self.objective = channels_last_copy(network), objective
        self.layout = Parameters(network)

    def start(self, theta_1P: Tensor, _members: int = 1) -> None:
        """Take over the parameters θ [1 P]."""
        self.layout.write(self.network, theta_1P[0])

    def leaves(self) -> list[Tensor]:
        """Return the tensors that an optimiser steps: the parameters."""
        return [self.network.get_parameter(name) for name in self.layout.shapes]

    def __call__(self, x_1B: Any) -> Tensor:
        """Return outputs [1 B K] for inputs with a leading 1."""
        return self.objective.output(self.network, rows_of(x_1B, 0))[None]

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
        is_shared = len(next(iter(x.values())) if isinstance(x, Mapping) else x) == 1
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


def copies_of(network: nn.Module, objective: Objective, *, stacked: bool) -> Copies:
    """Return copies of a network, to be started with parameters.

    Args:
        network: The architecture; it is copied.
        objective: The objective that calls it.
        stacked: Whether copies run side by side. One at a time is faster for a CNN on a CPU.
    """
    if not stacked:
        return Single(network, objective)
    return (Perceptrons if fits(network, objective) else Stacked)(network, objective)
