r"""Filters φ of curvature eigenvalues: every gradient method is ∇g(z)ᵀ φ(C) ∇L(z_j)."""

from collections.abc import Callable

import torch
from torch import Tensor

Filter = Callable[[Tensor], Tensor]


def ridge(damping: float) -> Filter:
    r"""The influence function's filter :math:`\phi(s) = 1/(s + \lambda)`.

    Args:
        damping: The ridge :math:`\lambda`, in units of the curvature's eigenvalues. It changes the
            answer.
    """
    return lambda s: 1.0 / (s + damping)


def unrolled(rate: float, steps: float) -> Filter:
    r"""Gradient descent stopped after T steps of rate η: :math:`\phi(s) = (1-(1-\eta s)^T)/s`.

    The exact effect of a gradient on what T steps of gradient descent on the quadratic model
    reach. T → 0 gives ηT (Grad-Dot), T → ∞ gives 1/s (undamped influence). Where η s > 2 gradient
    descent would diverge, and the flow :math:`(1-e^{-\eta T s})/s` takes its place. If T is not
    whole, it does so where η s ≥ 1, as a negative number has no such power.

    Args:
        rate: Rate :math:`\eta`.
        steps: Number of steps :math:`T`. Only η T matters while η s is small.
    """
    whole = float(steps).is_integer()

    def phi(s: Tensor) -> Tensor:
        moved = rate * s
        # log1p and expm1: (1 − ηs)^T loses all digits of small s.
        decay = torch.where(moved < 1, torch.log1p(-moved.clamp(max=1 - 1e-9)), -moved)
        gone = -torch.expm1(steps * decay)
        if whole:
            overshoots = (moved >= 1) & (moved <= 2)
            gone = torch.where(overshoots, 1 - (1 - moved.clamp(1, 2)) ** steps, gone)
        return _over(gone, s, rate * steps, rate**2 * steps * (steps - 1) / 2)

    return phi


def flow(horizon: float, decay: float = 0.0) -> Filter:
    r"""Gradient flow for a time ηT: :math:`\phi(s) = (1 - e^{-\eta T (s + \omega)})/(s + \omega)`.

    Args:
        horizon: Horizon :math:`\eta T`, the sum of the training's learning rates.
        decay: Weight decay :math:`\omega`, the training's weight decay.
    """

    def phi(s: Tensor) -> Tensor:
        whole = s + decay
        return _over(-torch.expm1(-horizon * whole), whole, horizon, horizon**2 / 2)

    return phi


def _over(gone: Tensor, s: Tensor, first: float, second: float) -> Tensor:
    """Return a value over s; at s = 0 its series ``first`` − ``second`` s has value and slope."""
    safe = torch.where(s == 0, 1, s)
    return torch.where(s == 0, first - second * s, gone / safe)


CLOSE = 1e-8  # of the largest: difference of eigenvalues below which a derivative takes its place


def divided_differences(phi: Filter, s_Q: Tensor) -> Tensor:
    r"""Return :math:`(\varphi(a) - \varphi(b))/(a - b)` of all pairs [Q Q].

    Where a = b it is :math:`\varphi'`.

    By Daleckii and Krein, the derivative of φ(C) in the basis of C's eigenvectors.
    """
    leaf_Q = s_Q.detach().clone().requires_grad_()
    (slope_Q,) = torch.autograd.grad(phi(leaf_Q).sum(), leaf_Q)
    value_Q = phi(s_Q)
    gap_QQ = s_Q[:, None] - s_Q
    near_QQ = gap_QQ.abs() <= CLOSE * s_Q.max()
    quotient_QQ = (value_Q[:, None] - value_Q) / torch.where(near_QQ, 1.0, gap_QQ)
    return torch.where(near_QQ, (slope_Q[:, None] + slope_Q) / 2, quotient_QQ)
