"""Influence functions: what an infinitesimal up-weighting of z_j does to the loss on z."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tda.curvature import GaussNewton
from tda.filters import ridge
from tda.gradients import SampleGradients


def influence(gradients: SampleGradients, dampings: Sequence[float]) -> Tensor:
    r"""Scores [D N M]: :math:`-\nabla L(z)^\top (C + \lambda I)^{-1} \nabla L(z_j)`.

    Negative = helpful (Koh and Liang 2017, equation 2). C is the Gauss-Newton matrix of the mean
    training loss, solved exactly by its dual, for all dampings from one eigendecomposition.

    Args:
        gradients: of one sample of θ. Costs N·K + M vector-Jacobian products.
        dampings: λ of the equation, one result each. The training's weight decay is part of the
            curvature of what was trained; add it to λ if you want it.
    """
    curvature = GaussNewton.of(gradients)
    return torch.stack([-curvature.bilinear(ridge(damping)) for damping in dampings])
