"""The seam between a model and every method: loss, and the loss's derivatives in the output."""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Objective(Protocol):
    """What attribution must know of a loss, besides the network.

    The Hessian of the loss in the output, S [K K], is given by a root R with R Rᵀ = S, and the
    loss's gradient in the output as R c. With both, Gauss-Newton curvature and gradients live in
    the same span and no pseudo-inverse is needed.
    """

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Per-example loss [...] of output [..., K] and target [...]."""

    def hessian_root(self, output_BK: Tensor) -> Tensor:
        """R [B K K] with R Rᵀ the Hessian of the loss in the output."""

    def gradient_in_root(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """c [B K] with R c the gradient of the loss in the output."""


class Classification:
    """Cross-entropy of a softmax over K classes, with integer targets."""

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """−log softmax(f)_y, per example.

        Give the output in float64 where small differences of confident predictions matter: in
        float32 the loss is quantised at 1.2e-7.
        """
        flat = F.cross_entropy(
            output.flatten(0, -2), y.expand(output.shape[:-1]).flatten(), reduction="none"
        )
        return flat.unflatten(0, output.shape[:-1])

    def hessian_root(self, output_BK: Tensor) -> Tensor:
        """R = diag(√p) − p √pᵀ, so that R Rᵀ = diag(p) − p pᵀ for softmax probabilities p."""
        p_BK = output_BK.softmax(-1)
        root_BK = p_BK.sqrt()
        return torch.diag_embed(root_BK) - p_BK[:, :, None] * root_BK[:, None, :]

    def gradient_in_root(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """c = √p − e_y/√p_y: then R c = p − e_y exactly, without inverting the singular R.

        −e_y/√p_y alone solves R c = p − e_y; adding √p, which R maps to 0, gives the solution of
        smallest norm, so that nothing large has to cancel.
        """
        root_BK = (0.5 * output_BK.log_softmax(-1)).exp()
        own_root_B1 = root_BK.gather(1, y_B[:, None])
        return root_BK.scatter_add(1, y_B[:, None], -1 / own_root_B1)
