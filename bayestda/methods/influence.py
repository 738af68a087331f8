"""Influence functions: what an infinitesimal up-weighting of z_j does to the measurement on z."""

from collections.abc import Sequence

from bayestda.curvature.filters import Filter
from bayestda.curvature.gauss_newton import (
    explicit_hessian,
    gauss_newton,
)
from bayestda.gradients.blocks import Blocks, by_blocks
from bayestda.gradients.sample import SampleGradients


@by_blocks
def influence(gradients: SampleGradients, damping: float) -> Blocks:
    r"""Scores [N M]: :math:`\nabla g(z)^\top (C + \lambda I)^{-1} \nabla L(z_j)`; + = helpful.

    C is the exact Gauss-Newton matrix of the mean training loss, solved by Cholesky, itself or its
    dual, whichever is smaller (Koh and Liang 2017, equation 2, with the sign turned; Martens 2020
    on Gauss-Newton). Costs N·K + N + M vector-Jacobian products and min(N·K, P)² numbers.

    Args:
        gradients: Gradients of one sample of θ.
        damping: The ridge λ, in units of curvature eigenvalues. The training's weight decay is part
            of the curvature of what was trained: add it to λ if you want it.

    Raises:
        UserError: the matrix does not fit into memory.
    """
    return gauss_newton(gradients).solved(damping)


@by_blocks
def filtered_influence(gradients: SampleGradients, phi: Filter) -> Blocks:
    r"""Scores [N M]: :math:`\nabla g(z)^\top \phi(C) \nabla L(z_j)`; positive = helpful.

    C as in :func:`influence`. One eigendecomposition serves all filters of a sample of θ.

    Args:
        gradients: Gradients of one sample of θ.
        phi: A filter from :mod:`bayestda.curvature.filters`.
    """
    return gauss_newton(gradients).filtered(phi)


@by_blocks
def hessian_influence(gradients: SampleGradients, damping: float) -> Blocks:
    r"""Scores [N M]: :math:`\nabla g(z)^\top (H + \lambda I)^{-1} \nabla L(z_j)`; + = helpful.

    H is the exact Hessian of the mean training loss, formed: for small models (Koh and Liang 2017,
    equation 2). Costs P Hessian-vector products, P² numbers and a solution of P equations.

    Args:
        gradients: Gradients of one sample of θ.
        damping: The ridge λ. H may be indefinite. λ must not be of the size of a negative
            eigenvalue.
    """
    return explicit_hessian(gradients).solved(damping)


def influence_by_dampings(gradients: SampleGradients, dampings: Sequence[float]) -> Blocks:
    """Yield blocks [D n m] of :func:`influence` for several dampings.

    One tridiagonal reduction of the dual serves all of them, or one eigendecomposition of C where
    that is smaller. Scores differ from those of one damping, by Cholesky, only by rounding.

    Args:
        gradients: Gradients of one sample of θ.
        dampings: Values of λ.

    Raises:
        UserError: a damping leaves the matrix singular.
    """
    return gauss_newton(gradients).solved_by(dampings)


def hessian_influence_by_dampings(gradients: SampleGradients, dampings: Sequence[float]) -> Blocks:
    """Yield the same of :func:`hessian_influence`."""
    return explicit_hessian(gradients).solved_by(dampings)
