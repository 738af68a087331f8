"""Define what methods must know of a model's training: outputs, loss, derivatives, measurement."""

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

from bayestda.errors import UserError

Measurement = Callable[[Tensor, Tensor], Tensor]  # outputs [B K] and targets [B ...] -> [B]


class OutsideSpan(UserError):
    """Report that the loss's gradient in the output is not in the span of its Hessian there."""


class Objective(Protocol):
    """Define what attribution must know of a model's training, besides the network.

    The Hessian of the loss in the output, S [K K], is given by a root R with R Rᵀ = S, and the
    loss's gradient in the output as R c. With both, Gauss-Newton curvature and gradients live in
    the same span, and no pseudo-inverse is needed.
    """

    def output(self, network: nn.Module, x: Any) -> Tensor:
        """Return the outputs [B K] of the network on a batch of inputs."""

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each example [...] for outputs [..., K] and targets [...]."""

    def measure(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """Return what scores explain [B], on test examples; usually the loss."""

    def hessian_root(self, output_BK: Tensor, y_B: Tensor, /) -> Tensor:
        """Return R [B K K] with R Rᵀ the Hessian of the loss in the output."""

    def gradient_in_root(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """Return c [B K] with R c the gradient of the loss in the output.

        Raises:
            OutsideSpan: There is no such c.
        """
