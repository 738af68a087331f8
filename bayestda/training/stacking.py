"""Copies of one network with parameters of their own: side by side, or one at a time."""

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
    """One copy at a time: the network itself, convolutions in channels-last layout."""

    def __init__(self, network: nn.Module, objective: Objective):
        self.network, self.objective = channels_last_copy(network), objective
        self.layout = Parameters(network)

    def start(self, theta_1P: Tensor, _members: int = 1) -> None:
        """Take over θ [1 P]."""
        self.layout.write(self.network, theta_1P[0])

    def leaves(self) -> list[Tensor]:
        """What an optimiser steps: parameters, with a leading dim R if stacked."""
        return [self.network.get_parameter(name) for name in self.layout.shapes]

    def __call__(self, x_1B: Any) -> Tensor:
        """Outputs [1 B K] of inputs with a leading 1."""
        return self.objective.output(self.network, rows_of(x_1B, 0))[None]

    def vector(self) -> Tensor:
        """A copy of θ [R P]."""
        return self.layout.read(self.network)[None]


class Stacked:
    """R copies at once; inputs with a leading 1 are shared by all of them."""

    def __init__(self, network: nn.Module, objective: Objective):
        self.network, self.objective = private_copy(network), objective
        self.layout = Parameters(network)

    def start(self, theta: Tensor, members: int = 1) -> None:
        """Take over θ [R P], or [1 P] for all members."""
        expanded = theta.expand(max(members, len(theta)), -1)
        self.named = {
            name: value.clone().requires_grad_()
            for name, value in self.layout.split(expanded).items()
        }

    def leaves(self) -> list[Tensor]:
        """What an optimiser steps: parameters, with a leading dim R if stacked."""
        return list(self.named.values())

    def __call__(self, x: Any) -> Tensor:
        """Outputs [R B K] of inputs with a leading R, or a 1 if all members share them.

        Raises:
            UserError: PyTorch has no way to call one of the network's layers on stacked weights.
        """
        shared = len(next(iter(x.values())) if isinstance(x, Mapping) else x) == 1
        forward = vmap(
            partial(output_at, self.network, self.objective),
            in_dims=(0, None if shared else 0),
            randomness="same",  # of dropout
        )
        try:
            return forward(self.named, rows_of(x, 0) if shared else x)
        except RuntimeError as error:
            if not re.search("vmap|batching rule", str(error), re.IGNORECASE):
                raise
            raise UserError(
                f"copies of this network cannot be stacked ({error}): give chunk=1, which takes "
                "one at a time"
            ) from error

    def vector(self) -> Tensor:
        """A copy of θ [R P]."""
        return self.layout.join({name: value.detach() for name, value in self.named.items()})


Copies = Single | Stacked | Perceptrons


def copies_of(network: nn.Module, objective: Objective, *, stacked: bool) -> Copies:
    """Room for members: side by side, or for one at a time, which a CPU does faster for a CNN."""
    if not stacked:
        return Single(network, objective)
    return (Perceptrons if fits(network, objective) else Stacked)(network, objective)
