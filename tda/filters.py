r"""Filters φ of curvature eigenvalues: every gradient method is ∇g(z)ᵀ φ(C) ∇L(z_j)."""

from collections.abc import Callable

import torch
from torch import Tensor

Filter = Callable[[Tensor], Tensor]


def ridge(damping: float) -> Filter:
    r"""The influence function's filter :math:`\phi(s) = 1/(s + \lambda)`.

    Args:
        damping: :math:`\lambda`, in units of the curvature's eigenvalues. Changes the answer.
    """
    return lambda s: 1.0 / (s + damping)


def lissa(damping: float, scale: float, steps: int) -> Filter:
    r"""LiSSA's filter :math:`(1 - (1 - (s + \lambda)/c)^{K+1})/(s + \lambda)`.

    The recursion :math:`v \leftarrow g + (I - (C + \lambda)/c) v` starts at v = g, so that after
    K steps K + 1 terms of the Neumann series are summed (Koh and Liang 2017, section 3).

    Args:
        damping: :math:`\lambda`, as in :func:`ridge`; the released code's is this divided by c.
        scale: :math:`c`, must exceed the largest :math:`s + \lambda` over 2.
        steps: :math:`K`. All three change the answer until the series has converged.
    """

    def phi(s: Tensor) -> Tensor:
        remaining = 1 - (s + damping) / scale
        return torch.where(
            s + damping == 0, (steps + 1) / scale, (1 - remaining ** (steps + 1)) / (s + damping)
        )

    return phi
