"""Unrolled gradient descent as a filter: between Grad-Dot and the influence function."""

from bayestda.curvature.filters import flow, unrolled
from bayestda.curvature.gauss_newton import gauss_newton
from bayestda.gradients.blocks import Blocks, by_blocks
from bayestda.gradients.sample import SampleGradients


@by_blocks
def unrolled_influence(gradients: SampleGradients, rate: float, steps: float) -> Blocks:
    r"""Scores [N M]: :math:`\nabla g^\top C^{-1} (I - (I - \eta C)^T) \nabla L_j`; + = helpful.

    What T steps of gradient descent of rate η do with an up-weighted z_j, in the quadratic model
    with the Gauss-Newton matrix C of the sample (Bae et al. 2024, SOURCE, equation 12 with one
    segment). T → 0 is η T Grad-Dot, T → ∞ the undamped influence function; a ridge of λ = 1/(ηT)
    is close to it. Costs as :func:`bayestda.methods.influence.filtered_influence`.

    Args:
        gradients: Gradients of one sample of θ.
        rate: Rate η. Where η s > 2 (≥ 1 if T is not whole), gradient flow takes the place of steps.
        steps: Number of steps T.
    """
    return gauss_newton(gradients).filtered(unrolled(rate, steps))


@by_blocks
def flow_influence(gradients: SampleGradients, horizon: float, decay: float = 0.0) -> Blocks:
    r"""Scores [N M]: :math:`\nabla g^\top C^{-1} (I - e^{-\tau C}) \nabla L_j`; + = helpful.

    :func:`unrolled_influence` for small steps, where only τ = η T = Σ_t η_t matters. Weight decay ω
    adds to every eigenvalue: C + ω takes the place of C.

    Args:
        gradients: Gradients of one sample of θ.
        horizon: Horizon τ, from the recorded training: no tuning.
        decay: Weight decay ω of the training. It matters where ω τ does.
    """
    return gauss_newton(gradients).filtered(flow(horizon, decay))
