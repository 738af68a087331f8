r"""Curvature matrices C of the training loss, as what φ(C) needs: their spectrum.

The Gauss-Newton matrix is :math:`C = \frac{1}{N}\sum_n J_n^\top S_n J_n = B^\top B` with B
[N·K, P]. Every φ(C) is had from one eigendecomposition, of C or of its dual B Bᵀ, whichever is
smaller.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bayestda.curvature.degenerate import require_curvature
from bayestda.curvature.filters import Filter
from bayestda.curvature.primal import Primal, gauss_newton_matrix, hessian_matrix, ridges
from bayestda.curvature.tridiagonal import Tridiagonal, singular
from bayestda.curvature.vector_products import PRODUCTS, Products
from bayestda.errors import UserError
from bayestda.gradients.blocks import Blocks, chunks, require
from bayestda.gradients.factored import Rows, inner
from bayestda.gradients.sample import SampleGradients
from bayestda.model.examples import blocks
from bayestda.model.objective import OutsideSpan

NULL = 1e-13  # of the largest singular value: rounding, and no curvature
KEPT = 1e-10  # of a gradient: what may change when directions are left out
LARGE = 1e6  # coordinates, in units of gradients over roots: beyond it eigenvectors lose digits


def gauss_newton(gradients: SampleGradients) -> "GaussNewton | Primal":
    """Return the exact Gauss-Newton matrix, made once; in its dual where that is smaller.

    The dual serves only where training gradients are in the matrix's span.

    Raises:
        UserError: it does not fit into memory, or it is zero.
    """
    if "gauss_newton" not in gradients.kept:
        require_curvature(gradients)
        gradients.kept["gauss_newton"] = _smaller(gradients)
    return gradients.kept["gauss_newton"]


def _smaller(gradients: SampleGradients) -> "GaussNewton | Primal":
    rank, count = gradients.outputs_NK.numel(), gradients.layout.count
    if rank <= count:
        require_matrix(gradients, rank, "the exact Gauss-Newton matrix")
        with suppress(OutsideSpan):
            return _dual(gradients)
    require_matrix(gradients, count, "the exact Gauss-Newton matrix")
    return Primal(gauss_newton_matrix(gradients), gradients)


def explicit_hessian(gradients: SampleGradients) -> "Primal":
    """Return the exact Hessian of the mean training loss, made once.

    Raises:
        UserError: it does not fit into memory, or it is zero.
    """
    if "hessian" not in gradients.kept:
        require_matrix(gradients, gradients.layout.count, "the exact Hessian")
        matrix_PP = hessian_matrix(gradients)
        if not matrix_PP.any():
            raise UserError(
                "the Hessian of the training loss is zero, as network and loss are linear, so that "
                "influence would be Grad-Dot times a number: use grad_dot"
            )
        gradients.kept["hessian"] = Primal(matrix_PP, gradients, indefinite=True)
    return gradients.kept["hessian"]


def require_matrix(gradients: SampleGradients, size: int, name: str) -> None:
    """Require room for a matrix, a factor of it, and what LAPACK needs.

    Raises:
        UserError: there is not.
    """
    require(  # 3 matrices of 8 bytes a number
        gradients, 3 * 8 * size**2, f"{name} of {size:,} rows",
        "raise it, restrict parameters=, or use influence_projected, influence_ekfac, influence_cg "
        "or influence_low_rank",
    )  # fmt: skip


@dataclass(frozen=True)
class GaussNewton:
    r"""The Gauss-Newton matrix by its dual B Bᵀ [N·K N·K].

    Training gradients are in its span exactly: :math:`\nabla L(z_j) = B^\top c_j` with c from
    :meth:`Objective.gradient_in_root`, so that no gradient is projected.

    Attributes:
        gram_QQ: The dual B Bᵀ, float64.
        root_NKK: Root of the loss's Hessian in the output, over √N. Directions without curvature
            are left out: K − 1 columns are left of a softmax's K.
        train_NK: Coordinates c_j.
        gradients: Gradients of the sample.
    """

    gram_QQ: Tensor
    root_NKK: Tensor
    train_NK: Tensor
    gradients: SampleGradients

    @classmethod
    def of(cls, gradients: SampleGradients) -> "GaussNewton":
        """Make it from the Jacobian's inner products with itself.

        Raises:
            OutsideSpan: a training gradient is not in the matrix's span.
        """
        objective, count = gradients.objective, len(gradients.train_data)
        output_NK, y_N = gradients.outputs_NK.double(), gradients.targets_N
        coordinates_NK = objective.gradient_in_root(output_NK, y_N) * count**0.5
        root_NKK = objective.hessian_root(output_NK, y_N) / count**0.5
        root_NKk, coordinates_Nk = _without_null(root_NKK, coordinates_NK)
        return cls(dual(gradients, root_NKk), root_NKk, coordinates_Nk, gradients)

    @cached_property
    def spectrum(self) -> tuple[Tensor, Tensor, Tensor]:
        """Eigenvalues s [Q] of the dual, its eigenvectors U [Q Q], and Uᵀ c [Q N].

        All other eigenvalues of C are 0.
        """
        eigenvalues_Q, basis_QQ = torch.linalg.eigh(self.gram_QQ)
        basis_NKQ = basis_QQ.unflatten(0, self.train_NK.shape)
        train_QN = torch.einsum("nkq,nk->qn", basis_NKQ, self.train_NK)
        return eigenvalues_Q.clamp(min=0), basis_QQ, train_QN

    @cached_property
    def tests_QM(self) -> Tensor:
        """B ∇g(z) of all test examples."""
        return torch.cat([self.in_span(rows) for _, rows in self.gradients.test], dim=1)

    def weights(self, span_NK: Tensor) -> Tensor:
        """Return the weights of the outputs' gradients [N K] that add up to Bᵀ of given numbers."""
        return torch.einsum("nka,na->nk", self.root_NKK, span_NK)

    def filtered(self, phi: Filter) -> Blocks:
        """Yield ∇L(z_j)ᵀ φ(C) ∇g(z), float64."""
        for rows, columns, block_1nm in self.filtered_by([phi]):
            yield rows, columns, block_1nm[0]

    def filtered_by(self, filters: Sequence[Filter]) -> Blocks:
        """Yield blocks [D n m] of the same for several filters."""
        if self.is_graded and all(phi(torch.zeros(1)).isfinite() for phi in filters):
            yield from self._filtered_apart(filters)
            return
        eigenvalues_Q, _, train_QN = self.spectrum
        filtered_QN = [train_QN * phi(eigenvalues_Q)[:, None] for phi in filters]
        for rows, columns, test_Qm in self._tests(rotated=True):
            scores = [own_QN[:, rows].T @ test_Qm for own_QN in filtered_QN]
            yield rows, columns, torch.stack(scores)

    @cached_property
    def is_graded(self) -> bool:
        """Whether an example is so surely misjudged that rounding times c_j hides its gradient.

        A softmax has c_j of the size 1/√p of the right class. Cholesky keeps the digits of a large
        number times a tiny row of B; rotations mix rows of all sizes.
        """
        gradient_NK = torch.einsum("nka,na->nk", self.root_NKK, self.train_NK)
        largest = self.train_NK.norm(dim=1).max() * self.root_NKK.norm(dim=(1, 2)).max()
        return bool(largest > LARGE * gradient_NK.norm(dim=1).max())

    def _filtered_apart(self, filters: Sequence[Filter]) -> Blocks:
        """Yield the same as :meth:`filtered_by`, where c_j is too large to be rotated.

        φ(C) = φ(0) + Bᵀ ψ(B Bᵀ) B with ψ(s) = (φ(s) − φ(0))/s. Only B ∇L(z_j) is then rotated,
        which is not large.
        """
        eigenvalues_Q, basis_QQ, _ = self.spectrum
        gram_QNK = self.gram_QQ.unflatten(1, self.train_NK.shape)
        turned_QN = basis_QQ.T @ torch.einsum("qnk,nk->qn", gram_QNK, self.train_NK)
        curved_Q = eigenvalues_Q > NULL * eigenvalues_Q.max()
        safe_Q = torch.where(curved_Q, eigenvalues_Q, 1)
        at_zero = [float(phi(eigenvalues_Q.new_zeros(1))) for phi in filters]
        slopes = [(phi(safe_Q) - own) / safe_Q for phi, own in zip(filters, at_zero, strict=True)]
        weighted_QN = [turned_QN * torch.where(curved_Q, own, 0)[:, None] for own in slopes]
        for rows, columns, test_Qm in self._tests(rotated=False):
            test_NKm = test_Qm.unflatten(0, self.train_NK.shape)[rows]
            products = torch.einsum("nk,nkm->nm", self.train_NK[rows], test_NKm)
            rotated_Qm = basis_QQ.T @ test_Qm
            scores = [
                value * products + own_QN[:, rows].T @ rotated_Qm
                for value, own_QN in zip(at_zero, weighted_QN, strict=True)
            ]
            yield rows, columns, torch.stack(scores)

    def solved(self, damping: float) -> Blocks:
        """Yield ∇L(z_j)ᵀ (C + λ)⁻¹ ∇g(z), float64, by Cholesky.

        As ∇L(z_j) = Bᵀ c_j, it is c_jᵀ (B Bᵀ + λ)⁻¹ B ∇g(z).
        """
        self._require_damping(damping)
        factor_QQ = damped_factor(self.gram_QQ.clone(), damping)
        for rows, columns, test_Qm in self._tests(rotated=False):
            solved_NKm = torch.cholesky_solve(test_Qm, factor_QQ).unflatten(0, self.train_NK.shape)
            scores = torch.einsum("nk,nkm->nm", self.train_NK[rows], solved_NKm[rows])
            yield rows, columns, scores

    def solved_by(self, dampings: Sequence[float]) -> Blocks:
        """Yield blocks [D n m] of the same for several dampings, by one reduction of the dual.

        On a GPU, of a single row, of coordinates that are too large, or where eigenvectors are
        known already, by those.
        """
        for damping in dampings:
            self._require_damping(damping)
        reducible = self.gram_QQ.device.type == "cpu" and len(self.gram_QQ) > 1
        if "spectrum" in self.__dict__ or self.is_graded or not reducible:
            yield from self.filtered_by(ridges(self.spectrum[0], dampings))
            return
        reduced = Tridiagonal(self.gram_QQ)
        # Column j of c is c_j: its K numbers are those of example j, all others are 0.
        train_QN = torch.diag_embed(self.train_NK.T).permute(1, 0, 2).flatten(0, 1)
        turned_QN = reduced.rotated(train_QN)
        solved_DQN = torch.stack([reduced.solved(damping, turned_QN) for damping in dampings])
        for rows, columns, test_Qm in self._tests(rotated=False):
            turned_Qm = reduced.rotated(test_Qm)
            # One product of all dampings' vectors is faster than a product for each.
            solved_Rq = solved_DQN[:, :, rows].mT.flatten(0, 1)
            yield rows, columns, (solved_Rq @ turned_Qm).unflatten(0, (len(dampings), -1))

    def _require_damping(self, damping: float) -> None:
        """Refuse no damping of a C that has fewer non-zero eigenvalues than rows.

        Raises:
            UserError: C + λ is singular.
        """
        if damping == 0 and len(self.gram_QQ) < self.gradients.layout.count:
            raise singular(damping)

    def _tests(self, rotated: bool) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield training rows to score, test columns and B ∇g(z) [Q m], or Uᵀ B ∇g(z).

        Vectors of all test examples are kept for the next method where they are made at once.
        """
        count = len(self.gradients.test_data)
        name = f"gauss_newton {'rotated' if rotated else 'in span'}"
        if name in self.gradients.kept:
            yield slice(0, len(self.train_NK)), slice(0, count), self.gradients.kept[name]
            return
        for columns, test in chunks(self.gradients, self.gradients.test, 5 * 8 * len(self.gram_QQ)):
            test_Qm = self.in_span(test)
            if rotated:
                test_Qm = self.spectrum[1].T @ test_Qm
            if columns == slice(0, count):
                self.gradients.kept[name] = test_Qm
            rows = columns if self.gradients.own else slice(0, len(self.train_NK))
            yield rows, columns, test_Qm

    def in_span(self, test: Rows) -> Tensor:
        """Return B v [Q m] of gradients v, such as ∇g(z), one or more of each example."""
        parts = [
            torch.einsum(
                "nka,nkm->nam", self.root_NKK[chosen], inner(rows, test).flatten(2).double()
            ).flatten(0, 1)
            for chosen, rows in self.gradients.jacobian
        ]
        return torch.cat(parts)


def _without_null(root_NKK: Tensor, coordinates_NK: Tensor) -> tuple[Tensor, Tensor]:
    """Return R and c in directions along which some example's loss has curvature.

    A softmax has one without: adding a number to all outputs changes nothing. The dual of N (K − 1)
    rows is (1 − 1/K)³ of the work of N K rows.

    Args:
        root_NKK: Roots R with Hessian R Rᵀ.
        coordinates_NK: Coordinates c with gradient R c.
    """
    if not root_NKK.isfinite().all():  # which scores will say, by the example's number
        return root_NKK, coordinates_NK
    sizes_NK, basis_NKK = torch.linalg.svd(root_NKK)[1:]
    rank = int((sizes_NK > NULL * sizes_NK.max()).any(0).sum())
    if rank == sizes_NK.shape[1]:
        return root_NKK, coordinates_NK
    basis_NKk = basis_NKK.mT[:, :, :rank]
    kept_NKk = root_NKK @ basis_NKk
    kept_Nk = torch.einsum("nk,nka->na", coordinates_NK, basis_NKk)
    # Rounding of a sure prediction can be larger than the curvature along an unlikely class. If
    # that is the right class, its direction has the gradient.
    gradient_NK = torch.einsum("nka,na->nk", root_NKK, coordinates_NK)
    lost_NK = gradient_NK - torch.einsum("nka,na->nk", kept_NKk, kept_Nk)
    if (lost_NK.norm(dim=1) > KEPT * gradient_NK.norm(dim=1)).any():
        return root_NKK, coordinates_NK
    return kept_NKk, kept_Nk


def damped_factor(matrix_QQ: Tensor, damping: float) -> Tensor:
    """Return the Cholesky factor of C + λ, written over C.

    Raises:
        UserError: it is not positive definite.
    """
    matrix_QQ.diagonal().add_(damping)
    try:
        return torch.linalg.cholesky(matrix_QQ, out=matrix_QQ)
    except torch.linalg.LinAlgError as error:
        raise singular(damping) from error


def dual(gradients: SampleGradients, root_NKK: Tensor) -> Tensor:
    """Return B Bᵀ [N·K N·K], float64, from inner products of the Jacobian's blocks."""
    num_train, _, num_outputs = root_NKK.shape  # those along which the loss has curvature
    gram_NKNK = root_NKK.new_empty(num_train, num_outputs, num_train, num_outputs)
    for chosen, left in gradients.jacobian:
        # Blocks on and above the diagonal only: those below are their transposes.
        for at, right in gradients.jacobian.within(slice(chosen.start, num_train)):
            product = inner(left, right).double()
            rooted = torch.einsum("nka,nkml,mlb->namb", root_NKK[chosen], product, root_NKK[at])
            gram_NKNK[chosen, :, at] = rooted
            gram_NKNK[at, :, chosen] = rooted.permute(2, 3, 0, 1)
    return gram_NKNK.reshape(num_train * num_outputs, -1)


def training_products(gradients: SampleGradients, curvature: str, block: int = 256) -> Products:
    """Return products with the curvature of the mean loss over all training examples.

    With more than one block of examples, graphs are built anew for each product, so that memory
    does not grow with N.

    Raises:
        UserError: unknown curvature, or a Gauss-Newton matrix of zero.
    """
    if curvature not in PRODUCTS:
        raise UserError(f"curvature={curvature!r} is unknown: choose one of {', '.join(PRODUCTS)}")
    if curvature == "gauss_newton":
        require_curvature(gradients)
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


def dual_gauss_newton(gradients: SampleGradients) -> GaussNewton:
    """Return the Gauss-Newton matrix by its dual, made once.

    Raises:
        UserError: the dual is too large for this computer's memory, or it is zero.
    """
    require_curvature(gradients)
    require_matrix(gradients, gradients.outputs_NK.numel(), "the Gauss-Newton matrix's dual")
    return _dual(gradients)


def _dual(gradients: SampleGradients) -> GaussNewton:
    if "dual" not in gradients.kept:
        gradients.kept["dual"] = GaussNewton.of(gradients)
    return gradients.kept["dual"]
