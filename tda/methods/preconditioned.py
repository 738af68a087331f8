"""Influence in the coordinates in which the optimiser's steps are those of gradient descent."""

import torch
from torch import Tensor

from tda.curvature import GaussNewton
from tda.gradients import SampleGradients
from tda.pace import Pace


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
        gradients: of one sample of θ.
        pace: of the recorded training at the sample.
        damping: λ; None: 1/Σ_t η_t of the training.
    """
    weight_P = pace.scale_P.rsqrt()
    rows_qP = torch.cat([gradients.vectors(rows) for _, rows in gradients.jacobian]).flatten(0, 1)
    rows_qP *= weight_P
    gram_qq = rows_qP @ rows_qP.T
    rows_qP *= weight_P
    test = [rows_qP @ gradients.vectors(rows)[:, 0].T for _, rows in gradients.test]
    curvature = GaussNewton.from_products(gradients, gram_qq, torch.cat(test, dim=1))
    return curvature.solve(1 / pace.rate_sum if damping is None else damping)
