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


def unrolled(rate: float, steps: float) -> Filter:
    r"""Gradient descent stopped after T steps of rate η: :math:`\phi(s) = (1-(1-\eta s)^T)/s`.

    The exact effect of a gradient on what T steps of gradient descent on the quadratic model
    reach. T → 0 gives ηT (Grad-Dot), T → ∞ gives 1/s (undamped influence). Where η s > 2 gradient
    descent would diverge; there it is taken as the flow, :math:`(1-e^{-\eta T s})/s`.

    Args:
        rate: :math:`\eta`.
        steps: :math:`T`; only η T matters while η s is small.
    """

    def phi(s: Tensor) -> Tensor:
        # log1p and expm1: (1 − ηs)^T loses all digits of small s.
        decay = torch.where(rate * s < 1, torch.log1p(-(rate * s).clamp(max=1 - 1e-9)), -rate * s)
        safe = torch.where(s == 0, torch.ones_like(s), s)
        return torch.where(s == 0, rate * steps, -torch.expm1(steps * decay) / safe)

    return phi


def flow(horizon: float) -> Filter:
    r"""Gradient flow for a time ηT: :math:`\phi(s) = (1 - e^{-\eta T s})/s`.

    Args:
        horizon: :math:`\eta T`, the sum of the training's learning rates.
    """

    def phi(s: Tensor) -> Tensor:
        safe = torch.where(s == 0, torch.ones_like(s), s)
        return torch.where(s == 0, horizon, -torch.expm1(-horizon * s) / safe)

    return phi


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
