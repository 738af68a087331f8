"""Differentiate the measurement of queries in the parameters of many runs, along many directions.

Letters: S runs, R members, M queries.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import jvp, vmap

from bayestda.model.calls import output_at
from bayestda.model.inputs import rows_of
from bayestda.model.objective import Objective
from bayestda.model.parameters import Parameters
from bayestda.model.second_derivatives import (
    Differences,
    agrees,
    first_right,
    load_forward_mode,
    probe,
)
from bayestda.model.written_out import twice_differentiable

Queries = tuple[Any, Tensor]  # inputs and targets
Way = Callable[..., Tensor]


class MeasuredChanges:
    """Differentiate what one network measures.

    Args:
        network: The network in evaluation mode; its parameters do not matter.
        objective: The objective, which gives the measurement.
    """

    def __init__(self, network: nn.Module, objective: Objective):
        load_forward_mode()
        self.network, self.objective, self.layout = network, objective, Parameters(network)
        self._way: Way | None = None

    def changes(self, theta_SP: Tensor, shift_SRP: Tensor, queries: Queries) -> Tensor:
        """Return ∇m(θ)ᵀ r of some queries [S R M], float64."""
        if self._way is None:
            self._way = self._right_way(theta_SP, queries)
        return self._way(theta_SP, shift_SRP, queries)

    def _right_way(self, theta_SP: Tensor, queries: Queries) -> Way:
        theta_2P = theta_SP[[0, -1]]
        shift_22P = probe(theta_2P, (2,)).transpose(0, 1)
        few = (rows_of(queries[0], slice(3)), queries[1][:3])
        wanted = Differences(self._apart(theta_2P[-1:], shift_22P[-1:], few)[0, -1], 0.0)
        ways: dict[str, Way] = {
            "forward mode and vmap": self._stacked,
            "backward passes": self._apart,
        }
        return first_right(
            ways,
            lambda way: agrees(way(theta_2P, shift_22P, few)[-1, -1], wanted),
            "the derivative of the measurement",
            "write it in operations of torch",
        )  # fmt: skip

    def _stacked(self, theta_SP: Tensor, shift_SRP: Tensor, queries: Queries) -> Tensor:
        def change(theta_P: Tensor, shift_P: Tensor, queries: Queries) -> Tensor:
            return jvp(lambda own_P: self._measure(own_P, queries), (theta_P,), (shift_P,))[1]

        along = vmap(vmap(change, in_dims=(None, 0, None)), in_dims=(0, 0, None))
        with twice_differentiable(), torch.no_grad():
            return along(theta_SP, shift_SRP, queries)

    def _apart(self, theta_SP: Tensor, shift_SRP: Tensor, queries: Queries) -> Tensor:
        """The same by a gradient of each run and query."""
        runs = []
        for theta_P, shift_RP in zip(theta_SP, shift_SRP, strict=True):
            leaf_P = theta_P.detach().requires_grad_()
            gradients = []
            for m in range(len(queries[1])):
                one = (rows_of(queries[0], slice(m, m + 1)), queries[1][m : m + 1])
                with torch.enable_grad(), twice_differentiable():
                    value = self._measure(leaf_P, one).sum()
                    gradients.append(torch.autograd.grad(value, leaf_P)[0])
            runs.append((shift_RP @ torch.stack(gradients).T).double())
        return torch.stack(runs)

    def _measure(self, theta_P: Tensor, queries: Queries) -> Tensor:
        x_M, y_M = queries
        output_MK = output_at(self.network, self.objective, self.layout.split(theta_P), x_M)
        return self.objective.measure(output_MK.double(), y_M)
