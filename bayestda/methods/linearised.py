r"""What removals do to further training of the network linearised around the final model."""

import torch
from torch import Tensor

from bayestda.curvature.filters import Filter, divided_differences
from bayestda.curvature.gauss_newton import GaussNewton, dual_gauss_newton
from bayestda.gradients.sample import SampleGradients, output_cotangents
from bayestda.model.calls import outputs
from bayestda.model.examples import blocks
from bayestda.model.precision import differentiated_attention


def linearised(gradients: SampleGradients, phi: Filter) -> Tensor:
    r"""Scores [N M]: what a removal does to g where outputs move as :math:`f_z + J_z \Delta`.

    .. math::
        g'(f_z + J_z \Delta(D))^\top J_z
        \left[\varphi(C) \nabla L_i + \mathrm D\varphi(C)[C_i]\, \nabla R\right],
        \qquad \Delta(D) = -\varphi(C)\, \nabla R

    Positive = helpful. As :func:`bayestda.methods.generalised.generalised`, but the measurement's
    gradient is taken where further training ends. That matters as soon as further training moves
    test outputs by as much as their residuals. Costs an eigendecomposition of [N·K N·K] and M·K
    more rows.

    Args:
        gradients: Gradients of one sample of θ.
        phi: The filter of the further training, such as ``unrolled(rate, steps)`` of
            :mod:`bayestda.curvature.filters`.
    """
    dual = dual_gauss_newton(gradients)
    eigenvalues_Q, basis_RQ, train_QN = dual.spectrum
    output_QV = basis_RQ.T @ _test_outputs(gradients, dual)  # V = M K
    filter_Q, mean_Q = phi(eigenvalues_Q), train_QN.mean(1)
    # Further training moves θ by Δ(D) = −φ(C) ∇R, so that linearised outputs move by J_z Δ(D).
    slope_MK = _end_slope(gradients, -(filter_Q * mean_Q) @ output_QV)
    slopes_QQ = divided_differences(phi, eigenvalues_Q)
    moved_RQ = (basis_RQ * (eigenvalues_Q * mean_Q)) @ slopes_QQ
    turned_NQ = (basis_RQ * moved_RQ).unflatten(0, dual.train_NK.shape).sum(1)
    removed_NQ = (train_QN * filter_Q[:, None]).T + len(gradients.train_data) * turned_NQ
    return (removed_NQ @ (output_QV * slope_MK.flatten())).unflatten(1, slope_MK.shape).sum(2)


def _test_outputs(gradients: SampleGradients, dual: GaussNewton) -> Tensor:
    """Return B ∇f_k(z) of the test examples [Q M·K]."""
    parts = []
    for batch in blocks(gradients.test_data, gradients.test.block):
        rows = gradients.captured(batch.x, output_cotangents)
        parts.append(dual.in_span(rows).flatten(1))
    return torch.cat(parts, dim=1)


def _end_slope(gradients: SampleGradients, moved_V: Tensor) -> Tensor:
    """Return g' in the output where further training ends [M K]."""
    objective, test = gradients.objective, gradients.test_data.take(slice(None))
    with torch.no_grad(), differentiated_attention():
        output_MK = outputs(gradients.network, objective, test.x).double()
    end_MK = (output_MK + moved_V.view_as(output_MK)).requires_grad_()
    (slope_MK,) = torch.autograd.grad(objective.measure(end_MK, test.y).sum(), end_MK)
    return slope_MK
