"""Influence in the coordinates in which the optimiser's steps are those of gradient descent."""

import torch
from torch import Tensor

from bayestda.curvature.degenerate import require_curvature
from bayestda.gradients.blocks import require
from bayestda.gradients.sample import SampleGradients
from bayestda.training.horizon import Pace


def preconditioned_influence(
    gradients: SampleGradients, pace: Pace, damping: float | None = None
) -> Tensor:
    r"""Scores [N M]: :math:`\nabla g^\top (C + \lambda D)^{-1} \nabla L_j`; positive = helpful.

    D is the diagonal by which the optimiser divides gradients (Adam's √v̂ + ε at the sample; 1 for
    gradient descent): with :math:`\lambda = 1/\sum_t \eta_t` this is a ridge at the training's own
    horizon in the coordinates :math:`D^{1/2} \theta`, in which its steps are plain ones. So nothing
    is tuned. C is the Gauss-Newton matrix, solved in its dual. Costs N·K + N + M vector-Jacobian
    products, N·K·P numbers, and (N·K)².

    Args:
        gradients: Gradients of one sample of θ.
        pace: The recorded training's pace at the sample.
        damping: The ridge λ. None: 1/Σ_t η_t of the training.

    Raises:
        UserError: the Jacobian does not fit into memory.
    """
    size = 2 * gradients.outputs_NK.numel() * gradients.theta_P.nbytes
    require(gradients, size, "the Jacobian", "raise it, restrict parameters=, or use influence")
    if "preconditioned" not in gradients.kept:
        require_curvature(gradients)
        gradients.kept["preconditioned"] = _products(gradients, pace.scale_P.rsqrt())
    gram_QQ, test_QM = gradients.kept["preconditioned"]
    count, output_NK = len(gradients.train_data), gradients.outputs_NK.double()
    coordinates_NK = (
        gradients.objective.gradient_in_root(output_NK, gradients.targets_N) * count**0.5
    )
    damped_QQ = gram_QQ.clone()
    damped_QQ.diagonal().add_(1 / pace.rate_sum if damping is None else damping)
    solved_QM = torch.cholesky_solve(test_QM, torch.linalg.cholesky(damped_QQ))
    return torch.einsum("nk,nkm->nm", coordinates_NK, solved_QM.unflatten(0, output_NK.shape))


def _products(gradients: SampleGradients, weight_P: Tensor) -> tuple[Tensor, Tensor]:
    """Return B D⁻¹ Bᵀ [Q Q] and B D⁻¹ ∇g(z) [Q M], which all dampings share."""
    count, output_NK = len(gradients.train_data), gradients.outputs_NK.double()
    root_NKK = gradients.objective.hessian_root(output_NK, gradients.targets_N) / count**0.5
    rows_NKP = torch.cat([gradients.vectors(rows) for _, rows in gradients.jacobian]) * weight_P
    rows_QP = torch.einsum("nka,nkp->nap", root_NKK.to(rows_NKP.dtype), rows_NKP).flatten(0, 1)
    test = [rows_QP @ (gradients.vectors(rows)[:, 0] * weight_P).T for _, rows in gradients.test]
    return (rows_QP @ rows_QP.T).double(), torch.cat(test, dim=1).double()
