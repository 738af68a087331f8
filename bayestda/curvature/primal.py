"""Curvature matrices C [P P] that are formed, for networks of few parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bayestda.curvature.filters import Filter, ridge
from bayestda.curvature.tridiagonal import singular
from bayestda.curvature.vector_products import hessian_products
from bayestda.gradients.blocks import Blocks, between, formed
from bayestda.gradients.sample import SampleGradients
from bayestda.model.examples import blocks


@dataclass(frozen=True)
class Primal:
    """Any symmetric matrix C [P P], formed, between a sample's gradients.

    Attributes:
        matrix_PP: The matrix C, float64.
        gradients: Gradients of the sample.
        indefinite: Whether C may have negative eigenvalues, as a Hessian has.
    """

    matrix_PP: Tensor
    gradients: SampleGradients
    indefinite: bool = False

    @cached_property
    def spectrum(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues [P] and eigenvectors [P P]."""
        eigenvalues_P, basis_PP = torch.linalg.eigh(self.matrix_PP)
        return eigenvalues_P, basis_PP

    def filtered_by(self, filters: Sequence[Filter]) -> Blocks:
        """Yield blocks [D n m] of ∇L(z_j)ᵀ φ(C) ∇g(z) for several filters, float64."""
        for blocks_D in zip(*(self.filtered(phi) for phi in filters), strict=True):
            rows, columns, _ = blocks_D[0]
            yield rows, columns, torch.stack([block for *_, block in blocks_D])

    def solved_by(self, dampings: Sequence[float]) -> Blocks:
        """Yield blocks [D n m] of ∇L(z_j)ᵀ (C + λ)⁻¹ ∇g(z), by one eigendecomposition.

        Raises:
            UserError: a damping leaves a matrix singular that cannot be indefinite.
        """
        if self.indefinite:
            return self.filtered_by([ridge(damping) for damping in dampings])
        return self.filtered_by(ridges(self.spectrum[0], dampings))

    def filtered(self, phi: Filter) -> Blocks:
        """Yield ∇L(z_j)ᵀ φ(C) ∇g(z), float64."""
        eigenvalues_P, basis_PP = self.spectrum
        phi_P1 = phi(eigenvalues_P)[:, None]
        return between(self.gradients, lambda test_Pm: basis_PP @ (phi_P1 * (basis_PP.T @ test_Pm)))

    def solved(self, damping: float) -> Blocks:
        """Yield ∇L(z_j)ᵀ (C + λ)⁻¹ ∇g(z), float64: by Cholesky, or LU if C + λ is indefinite.

        Raises:
            UserError: C + λ is singular, of a C that cannot be indefinite.
        """
        damped_PP = self.matrix_PP.clone()
        damped_PP.diagonal().add_(damping)
        factor_PP, failed = torch.linalg.cholesky_ex(damped_PP)
        if not failed:
            return between(self.gradients, lambda v_Pv: torch.cholesky_solve(v_Pv, factor_PP))
        if not self.indefinite:
            raise singular(damping)
        factors = torch.linalg.lu_factor(damped_PP)
        return between(self.gradients, lambda v_Pv: torch.linalg.lu_solve(*factors, v_Pv))


def gauss_newton_matrix(gradients: SampleGradients) -> Tensor:
    """Return C [P P], float64, summed over blocks of examples."""
    count = gradients.layout.count
    objective, total = gradients.objective, len(gradients.train_data)
    matrix_PP = torch.zeros(count, count, dtype=torch.float64, device=gradients.theta_P.device)
    output_NK, y_N = gradients.outputs_NK.double(), gradients.targets_N
    for chosen, rows in gradients.jacobian:
        start = chosen.start
        for part_bKP in formed(gradients, rows):
            part = slice(start, start + len(part_bKP))
            root_bKK = objective.hessian_root(output_NK[part], y_N[part]) / total**0.5
            rooted = torch.einsum("bka,bkp->bap", root_bKK, part_bKP.double()).flatten(0, 1)
            matrix_PP.addmm_(rooted.T, rooted)
            start = part.stop
    return matrix_PP


def hessian_matrix(gradients: SampleGradients, block: int = 256) -> Tensor:
    """Return the Hessian of the mean training loss [P P], float64: P Hessian-vector products."""
    count, total = gradients.layout.count, len(gradients.train_data)
    eye_PP = torch.eye(count, dtype=gradients.theta_P.dtype, device=gradients.theta_P.device)
    matrix_PP = torch.zeros(count, count, dtype=torch.float64, device=eye_PP.device)
    for batch in blocks(gradients.train_data, block):
        products_PP = hessian_products(gradients, batch)(eye_PP).double()
        matrix_PP += products_PP * (len(batch) / total)
    return (matrix_PP + matrix_PP.T) / 2


def ridges(eigenvalues_Q: Tensor, dampings: Sequence[float]) -> list[Filter]:
    """The filters 1/(s + λ) of a matrix that is positive semi-definite.

    Raises:
        UserError: a damping leaves the matrix singular.
    """
    # What rounding makes of an eigenvalue 0 is no curvature that could be inverted.
    rounding = len(eigenvalues_Q) * torch.finfo(eigenvalues_Q.dtype).eps * eigenvalues_Q.max()
    for damping in dampings:
        if eigenvalues_Q.min() + damping <= rounding:
            raise singular(damping)
    return [ridge(damping) for damping in dampings]
