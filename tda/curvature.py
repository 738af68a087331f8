r"""Curvature matrices C of the training loss, as what φ(C) needs: their spectrum.

The Gauss-Newton matrix is :math:`C = \frac{1}{N}\sum_n J_n^\top S_n J_n = B^\top B` with B
[N·K, P]. Every φ(C) is had from one eigendecomposition, of C or of its dual B Bᵀ, whichever is
smaller.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from tda.ensemble import blocks
from tda.errors import UserError
from tda.filters import Filter
from tda.gradients import SampleGradients
from tda.products import PRODUCTS, Products, hessian_products
from tda.scratch import empty


class Curvature(Protocol):
    """A curvature matrix between the gradients of one sample of θ."""

    def bilinear(self, phi: Filter) -> Tensor:
        """∇L(z_j)ᵀ φ(C) ∇g(z) for all pairs [N M], float64."""


def gauss_newton(gradients: SampleGradients) -> "GaussNewton | Primal":
    """The exact Gauss-Newton matrix, in its dual where that is the smaller one; made once."""
    kept = gradients.kept
    if "gauss_newton" not in kept:
        dual = gradients.outputs_NK.numel() <= gradients.layout.count
        kept["gauss_newton"] = (
            GaussNewton.of(gradients) if dual else Primal(gauss_newton_matrix(gradients), gradients)
        )
    return kept["gauss_newton"]


def explicit_hessian(gradients: SampleGradients) -> "Primal":
    """The exact Hessian of the mean training loss; made once."""
    if "hessian" not in gradients.kept:
        gradients.kept["hessian"] = Primal(hessian_matrix(gradients), gradients)
    return gradients.kept["hessian"]


@dataclass(frozen=True)
class GaussNewton:
    r"""The Gauss-Newton matrix by its dual B Bᵀ [N·K N·K].

    Training gradients are in its span exactly: :math:`\nabla L(z_j) = B^\top c_j` with c from
    :meth:`Objective.gradient_in_root`, so that no gradient is projected.

    Attributes:
        gram_QQ: B Bᵀ, float64.
        test_QM: B ∇g(z).
        train_NK: c_j.
    """

    gram_QQ: Tensor
    test_QM: Tensor
    train_NK: Tensor

    @classmethod
    def of(cls, gradients: SampleGradients) -> "GaussNewton":
        """From the Jacobian's inner products with itself and with the test gradients."""
        objective, count = gradients.objective, len(gradients.train_data)
        output_NK, y_N = gradients.outputs_NK.double(), gradients.targets_N
        root_NKK = objective.hessian_root(output_NK, y_N) / count**0.5
        coordinates_NK = objective.gradient_in_root(output_NK, y_N) * count**0.5
        gram = gradients.jacobian.inner(gradients.jacobian).double()
        gram = torch.einsum("nka,nkml,mlb->namb", root_NKK, gram, root_NKK)
        test = gradients.jacobian.inner(gradients.test)[..., 0].double()
        test = torch.einsum("nka,nkm->nam", root_NKK, test).flatten(0, 1)
        return cls(gram.reshape(len(test), len(test)), test, coordinates_NK)

    @cached_property
    def spectrum(self) -> tuple[Tensor, Tensor, Tensor]:
        """Eigenvalues s [Q] of C that may differ from 0; test and training gradients [Q M], [Q N].

        In the basis of eigenvectors U of the dual: Uᵀ B ∇g(z) and Uᵀ c_j.
        """
        eigenvalues_Q, basis = torch.linalg.eigh(self.gram_QQ)
        basis = basis.unflatten(0, self.train_NK.shape)
        return (
            eigenvalues_Q.clamp(min=0),
            basis.flatten(0, 1).T @ self.test_QM,
            torch.einsum("nkq,nk->qn", basis, self.train_NK),
        )

    def bilinear(self, phi: Filter) -> Tensor:
        r"""∇L(z_j)ᵀ φ(C) ∇g(z) for all pairs [N M], float64."""
        eigenvalues_Q, test_QM, train_QN = self.spectrum
        return (train_QN * phi(eigenvalues_Q)[:, None]).T @ test_QM

    def solve(self, damping: float) -> Tensor:
        """∇L(z_j)ᵀ (C + λ)⁻¹ ∇g(z) [N M] by Cholesky: for one λ several times faster."""
        damped_QQ = self.gram_QQ.clone()
        damped_QQ.diagonal().add_(damping)
        solved_QM = torch.cholesky_solve(self.test_QM, torch.linalg.cholesky(damped_QQ))
        return torch.einsum(
            "nk,nkm->nm", self.train_NK, solved_QM.unflatten(0, self.train_NK.shape)
        )


@dataclass(frozen=True)
class Primal:
    """Any symmetric matrix C [P P], formed, between a sample's gradients.

    Attributes:
        matrix_PP: C, float64.
        gradients: of the sample.
    """

    matrix_PP: Tensor
    gradients: SampleGradients

    @cached_property
    def spectrum(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues [P] and eigenvectors [P P]."""
        eigenvalues_P, basis_PP = torch.linalg.eigh(self.matrix_PP)
        return eigenvalues_P, basis_PP

    def bilinear(self, phi: Filter) -> Tensor:
        """∇L(z_j)ᵀ φ(C) ∇g(z) for all pairs [N M], float64."""
        eigenvalues_P, basis_PP = self.spectrum
        return self._between(
            lambda test_PM: basis_PP @ (phi(eigenvalues_P)[:, None] * (basis_PP.T @ test_PM))
        )

    def solve(self, damping: float) -> Tensor:
        """∇L(z_j)ᵀ (C + λ)⁻¹ ∇g(z) [N M], by Cholesky, or by LU where C + λ is indefinite."""
        damped_PP = self.matrix_PP.clone()
        damped_PP.diagonal().add_(damping)
        factor_PP, indefinite = torch.linalg.cholesky_ex(damped_PP)
        if indefinite:
            return self._between(lambda right_PV: torch.linalg.solve(damped_PP, right_PV))
        return self._between(lambda right_PV: torch.cholesky_solve(right_PV, factor_PP))

    def _between(self, conditioned: Callable[[Tensor], Tensor]) -> Tensor:
        return between(self.gradients, conditioned)


def between(gradients: SampleGradients, conditioned: Callable[[Tensor], Tensor]) -> Tensor:
    """∇L(z_j)ᵀ F ∇g(z) for all pairs [N M], float64.

    Args:
        gradients: of one sample of θ.
        conditioned: products of the symmetric F with vectors, from [P V] to [P V]; it is given the
            training or the test gradients, whichever are fewer.
    """
    sizes = (len(gradients.train_data), len(gradients.test_data))
    train_side = sizes[0] < sizes[1]
    few, many = gradients.test, gradients.train
    if train_side:
        few, many = many, few
    vectors = [gradients.vectors(rows)[:, 0].double() for _, rows in few]
    conditioned_PV = conditioned(torch.cat(vectors).T)
    scores_NM = empty(sizes, conditioned_PV, gradients.scratch, gradients.memory_bytes / 6)
    for chosen, rows in many:
        products_BV = gradients.vectors(rows)[:, 0].double() @ conditioned_PV
        if train_side:
            scores_NM[:, chosen] = products_BV.T
        else:
            scores_NM[chosen] = products_BV
    return scores_NM


def training_products(gradients: SampleGradients, curvature: str, block: int = 256) -> Products:
    """Products with the curvature of the mean loss over all training examples.

    Graphs of blocks are built anew for each call, so that memory does not grow with N.

    Raises:
        UserError: unknown curvature.
    """
    if curvature not in PRODUCTS:
        raise UserError(f"curvature={curvature!r} is unknown: choose one of {', '.join(PRODUCTS)}")
    data = gradients.train_data
    few = len(data) <= block
    kept = [PRODUCTS[curvature](gradients, batch) for batch in blocks(data, block) if few]

    def products(vectors_VP: Tensor) -> Tensor:
        if few:
            return kept[0](vectors_VP)
        total_VP = torch.zeros_like(vectors_VP)
        for batch in blocks(data, block):
            share = len(batch) / len(data)
            total_VP += PRODUCTS[curvature](gradients, batch)(vectors_VP) * share
        return total_VP

    return products


def gauss_newton_matrix(gradients: SampleGradients) -> Tensor:
    """C [P P], float64, summed over blocks of examples."""
    count = gradients.layout.count
    objective, total = gradients.objective, len(gradients.train_data)
    matrix_PP = torch.zeros(count, count, dtype=torch.float64, device=gradients.theta_P.device)
    output_NK, y_N = gradients.outputs_NK.double(), gradients.targets_N
    root_NKK = objective.hessian_root(output_NK, y_N) / total**0.5
    for chosen, rows in gradients.jacobian:
        jacobian_BKP = gradients.vectors(rows).double()
        rooted = torch.einsum("bka,bkp->bap", root_NKK[chosen], jacobian_BKP).flatten(0, 1)
        matrix_PP.addmm_(rooted.T, rooted)
    return matrix_PP


def hessian_matrix(gradients: SampleGradients, block: int = 256) -> Tensor:
    """The Hessian of the mean training loss [P P], float64: P Hessian-vector products."""
    count, total = gradients.layout.count, len(gradients.train_data)
    eye_PP = torch.eye(count, dtype=gradients.theta_P.dtype, device=gradients.theta_P.device)
    matrix_PP = torch.zeros(count, count, dtype=torch.float64, device=eye_PP.device)
    for batch in blocks(gradients.train_data, block):
        products_PP = hessian_products(gradients, batch)(eye_PP).double()
        matrix_PP += products_PP * (len(batch) / total)
    return (matrix_PP + matrix_PP.T) / 2
