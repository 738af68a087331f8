"""Influence functions by conjugate gradients: nothing of size P² or (N·K)² is formed."""

import torch
from torch import Tensor

from tda.curvature import training_products
from tda.errors import UserError
from tda.gradients import SampleGradients
from tda.products import Products
from tda.streams import Blocks, by_blocks, chunks, formed, partners


class Indefinite(UserError):
    """C + λ is not positive definite: the proximal problem has no minimiser."""


@by_blocks
def cg_influence(
    gradients: SampleGradients,
    damping: float,
    *,
    curvature: str = "gauss_newton",
    tolerance: float = 1e-5,
    max_steps: int = 500,
) -> Blocks:
    r"""Scores [N M]: :math:`\nabla g(z)^\top (C + \lambda I)^{-1} \nabla L(z_j)`; + = helpful.

    Solved for the test gradients or, where there are fewer, for the training gradients (Martens
    2010; Koh and Liang 2017, section 3), as many together as memory has room for, 8 P numbers
    each. A step is a product of C with as many vectors as are unsolved; steps grow with the root of
    the condition number (s_max + λ)/λ that is left when the largest eigenvalues have been found.

    Args:
        gradients: of one sample of θ.
        damping: λ; with the Hessian it must exceed minus its lowest eigenvalue.
        curvature: ``gauss_newton`` or ``hessian``.
        tolerance: relative residual at which a vector is solved.
        max_steps: of a block of vectors.

    Raises:
        UserError: not solved after ``max_steps``, or the matrix is not positive definite.
    """
    products = training_products(gradients, curvature)
    train_side = len(gradients.train_data) < len(gradients.test_data)
    sides = (gradients.train, gradients.test)
    solved_side, others = sides if train_side else sides[::-1]
    each = 8 * gradients.layout.count * gradients.theta_P.element_size()
    for at, right in chunks(gradients, solved_side, each):
        right_VP = gradients.vectors(right)[:, 0]
        solved_VP = conjugate_gradients(
            lambda v: products(v) + damping * v, right_VP, tolerance, max_steps
        )
        for other, rows in partners(gradients, others, at):
            block = torch.cat([part[:, 0] @ solved_VP.T for part in formed(gradients, rows)])
            yield (at, other, block.T) if train_side else (other, at, block)


def conjugate_gradients(
    products: Products, right_VP: Tensor, tolerance: float, max_steps: int
) -> Tensor:
    """Solutions [V P] of A x = b for V right sides, which share their search directions.

    A right side that is not finite, or whose norm is not, has the solution NaN.

    Block conjugate gradients in the form that cannot break down (Ji and Li 2017, algorithm 3):
    directions are orthonormal, and those that depend on others are dropped. V directions a step
    find what separate iterations need several times as many products for.

    Raises:
        UserError: as :func:`cg_influence`.
    """
    solution_VP, residual_VP = torch.zeros_like(right_VP), right_VP.clone()
    enough_V = right_VP.norm(dim=1) * tolerance
    solution_VP[~enough_V.isfinite()] = torch.nan
    basis_DP = right_VP
    for _ in range(max_steps):
        active = residual_VP.norm(dim=1) > enough_V
        if not active.any():
            return solution_VP
        basis_DP = _orthonormal(basis_DP if basis_DP is not right_VP else right_VP[active])
        product_DP = products(basis_DP)
        factor_DD = _factor((basis_DP @ product_DP.T).double())
        length_DA = _solved(factor_DD, basis_DP @ residual_VP[active].T)
        solution_VP[active] += length_DA.T @ basis_DP
        residual_VP[active] -= length_DA.T @ product_DP
        left_AP = residual_VP[residual_VP.norm(dim=1) > enough_V]
        overlap_DA = _solved(factor_DD, product_DP @ left_AP.T)
        basis_DP = left_AP - overlap_DA.T @ basis_DP
    raise UserError(
        f"conjugate gradients have not converged after {max_steps} steps: raise the damping, the "
        "tolerance or max_steps"
    )


def _orthonormal(rows_AP: Tensor) -> Tensor:
    """An orthonormal basis [D P] of what the rows span beyond rounding."""
    unit_AP = rows_AP / rows_AP.norm(dim=1, keepdim=True).clamp(min=torch.finfo(rows_AP.dtype).tiny)
    squares_A, mixing_AA = torch.linalg.eigh((unit_AP @ unit_AP.T).double())
    kept = squares_A > squares_A[-1] * len(rows_AP) * torch.finfo(rows_AP.dtype).eps
    mixing_AD = mixing_AA[:, kept] / squares_A[kept].sqrt()
    return mixing_AD.T.to(rows_AP.dtype) @ unit_AP


def _factor(inner_DD: Tensor) -> Tensor:
    factor_DD, failed = torch.linalg.cholesky_ex((inner_DD + inner_DD.T) / 2)
    if failed and not inner_DD.isfinite().all():
        raise UserError(
            "a product of the curvature is not finite: look for NaN or infinite inputs, or "
            "gradients that overflow; float64 networks and inputs help"
        )
    if failed:
        raise Indefinite(
            "the damped curvature is not positive definite: raise the damping, or use the "
            "Gauss-Newton matrix"
        )
    return factor_DD


def _solved(factor_DD: Tensor, right_DA: Tensor) -> Tensor:
    return torch.cholesky_solve(right_DA.double(), factor_DD).to(right_DA.dtype)
