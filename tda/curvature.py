"""The Gauss-Newton matrix of the training loss, exactly, through its small dual."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tda.filters import Filter
from tda.gradients import SampleGradients


@dataclass(frozen=True)
class GaussNewton:
    r"""Spectrum of :math:`C = \frac{1}{N}\sum_n J_n^\top S_n J_n = B^\top B`, and what it acts on.

    C [P P] has rank at most N·K, and every φ(C) between vectors in its span follows from one
    eigendecomposition of the Gram matrix B Bᵀ [N·K N·K]. Training gradients are in the span
    exactly: :math:`\nabla L(z_j) = B^\top c_j` with c from :meth:`Objective.gradient_in_root`.

    Attributes:
        eigenvalues_Q: s, the eigenvalues of C that may differ from 0 [N·K], float64.
        test_QM: test gradients in the basis of eigenvectors: Uᵀ B ∇L(z).
        train_QN: training gradients likewise: Uᵀ c_j.
    """

    eigenvalues_Q: Tensor
    test_QM: Tensor
    train_QN: Tensor

    @classmethod
    def of(cls, gradients: SampleGradients) -> "GaussNewton":
        """From the Jacobian's inner products with itself and with the test gradients."""
        objective, data = gradients.objective, gradients.train_data
        output_NK, y_N = gradients.outputs_NK.double(), gradients.targets_N
        root_NKK = objective.hessian_root(output_NK, y_N) / len(data) ** 0.5
        coordinates_NK = objective.gradient_in_root(output_NK, y_N) * len(data) ** 0.5
        gram = gradients.jacobian.inner(gradients.jacobian).double()
        gram = torch.einsum("nka,nkml,mlb->namb", root_NKK, gram, root_NKK)
        test = gradients.jacobian.inner(gradients.test)[..., 0].double()
        test = torch.einsum("nka,nkm->nam", root_NKK, test).flatten(0, 1)
        num_rows = len(test)
        eigenvalues_Q, basis = torch.linalg.eigh(gram.reshape(num_rows, num_rows))
        basis = basis.unflatten(0, coordinates_NK.shape)
        return cls(
            eigenvalues_Q.clamp(min=0),
            basis.flatten(0, 1).T @ test,
            torch.einsum("nkq,nk->qn", basis, coordinates_NK),
        )

    def bilinear(self, phi: Filter) -> Tensor:
        r"""∇L(z_j)ᵀ φ(C) ∇L(z) for all pairs [N M], float64."""
        return (self.train_QN * phi(self.eigenvalues_Q)[:, None]).T @ self.test_QM
