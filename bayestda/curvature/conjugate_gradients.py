"""Linear systems by conjugate gradients."""

import torch
from torch import Tensor

from bayestda.curvature.vector_products import Products
from bayestda.errors import UserError


class Indefinite(UserError):
    """C + λ is not positive definite: the proximal problem has no minimiser."""


def conjugate_gradients(
    products: Products, right_VP: Tensor, tolerance: float, max_steps: int
) -> Tensor:
    """Return solutions [V P] of A x = b for V right sides, which share their search directions.

    Block conjugate gradients in the form that cannot break down (Ji and Li 2017, algorithm 3):
    directions are orthonormal, and those that depend on others are dropped. Separate iterations
    would need several times as many products. A right side that is not finite, or whose norm is
    not, has the solution NaN.

    Args:
        products: Products with A.
        right_VP: Right sides b.
        tolerance: Relative residual |b − A x| / |b| at which a right side is solved.
        max_steps: Most steps.

    Raises:
        UserError: not solved after ``max_steps``, or A is not positive definite.
    """
    solution_VP, residual_VP = torch.zeros_like(right_VP), right_VP.clone()
    # Each right side stops at its own relative residual. One of norm 0 is solved by 0 at once. A
    # comparison with NaN is False, so that a right side that is not finite does not go on.
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
    """Return an orthonormal basis [D P] of what the rows span beyond rounding."""
    unit_AP = rows_AP / rows_AP.norm(dim=1, keepdim=True).clamp(min=torch.finfo(rows_AP.dtype).tiny)
    squares_A, mixing_AA = torch.linalg.eigh((unit_AP @ unit_AP.T).double())
    # A direction whose squared length is rounding of the longest one depends on the others.
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
