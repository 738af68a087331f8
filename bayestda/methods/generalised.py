r"""What a removal does to further training that does not start at a minimum.

Further training moves :math:`\theta^f` by :math:`\Delta(D) = -\varphi(C)\,\nabla R`, with
:math:`\varphi(s) = 1/(s+\lambda)` for a minimiser with a proximal term (Wei et al. 2025, equation
15) or that of T steps of gradient descent. Removing z_i changes the gradient :math:`\nabla R`. As
:math:`\Delta(D) \neq 0`, the change of the curvature matters as well:

.. math::
    \Delta(D_{-i}) - \Delta(D) \approx \tfrac1n
    \left[\varphi(C) \nabla L(z_i) + \mathrm D\varphi(C)[C_i]\, \nabla R\right]

with :math:`C_i` the curvature of z_i's loss and D the Fréchet derivative; for a ridge the second
term is :math:`(C+\lambda)^{-1} C_i\, \Delta(D)`: Proposition 1, and Corollary 2 where C is the
Gauss-Newton matrix.
"""

import torch
from torch import Tensor

from bayestda.curvature.conjugate_gradients import conjugate_gradients
from bayestda.curvature.filters import Filter, divided_differences, ridge
from bayestda.curvature.gauss_newton import (
    GaussNewton,
    damped_factor,
    dual_gauss_newton,
    training_products,
)
from bayestda.curvature.vector_products import example_hessian_products, mean_gradient
from bayestda.gradients.blocks import require
from bayestda.gradients.factored import Rows, inner
from bayestda.gradients.sample import SampleGradients


def generalised_influence(gradients: SampleGradients, damping: float) -> Tensor:
    r"""Scores [N M]: :math:`\nabla g^\top (C+\lambda)^{-1} J_i^\top (r_i + S_i J_i \Delta)`.

    Positive = helpful. Corollary 2 of Wei et al. 2025, for any number of outputs: C is the
    Gauss-Newton matrix, J_i the outputs' Jacobian, r_i and S_i gradient and Hessian of the loss in
    the output, :math:`\Delta = -(C+\lambda)^{-1} \nabla R`. Costs an eigendecomposition of
    [N·K N·K].

    Args:
        gradients: Gradients of one sample of θ.
        damping: The ridge λ, in units of curvature eigenvalues.
    """
    return generalised(gradients, ridge(damping))


def generalised(gradients: SampleGradients, phi: Filter) -> Tensor:
    r"""Scores [N M]: :math:`\nabla g^\top [\varphi(C)\nabla L_i + D\varphi(C)[C_i]\nabla R]`.

    Positive = helpful; see the module. With ``filters.unrolled`` it is what T steps of gradient
    descent on the Gauss-Newton model do with an infinitesimal removal, exactly while they converge.

    Args:
        gradients: Gradients of one sample of θ.
        phi: A filter from :mod:`bayestda.curvature.filters`.
    """
    dual = dual_gauss_newton(gradients)
    eigenvalues_Q, basis_RQ, train_QN = dual.spectrum  # R = N K
    test_QM = basis_RQ.T @ dual.tests_QM
    direct_NM = (train_QN * phi(eigenvalues_Q)[:, None]).T @ test_QM
    mean_Q = train_QN.mean(1)  # ∇R, as B^T of it
    slopes_QQ = divided_differences(phi, eigenvalues_Q)
    # Dφ(C)[C_i] in the dual's eigenvectors, by Daleckii and Krein. C_i are the K rows of B that
    # belong to z_i, times N, so that a product of two vectors is summed over those rows.
    moved_RQ = (basis_RQ * (eigenvalues_Q * mean_Q)) @ slopes_QQ
    turned_RM = len(gradients.train_data) * (basis_RQ * moved_RQ) @ test_QM
    return direct_NM + turned_RM.unflatten(0, dual.train_NK.shape).sum(1)


def near_stationary(gradients: SampleGradients, damping: float) -> Tensor:
    r"""Scores [N M]: :math:`\nabla g^\top (C+\lambda)^{-1} \nabla L(z_i; \theta^f + \Delta(D))`.

    Positive = helpful. Equation 16 of Wei et al. 2025: z_i's gradient is taken after further
    training, here by equation 15, :math:`\Delta(D) = -(C+\lambda)^{-1} \nabla R`, with C the
    Gauss-Newton matrix at :math:`\theta^f`. Costs as :func:`generalised_influence`.

    Args:
        gradients: Gradients of one sample of θ.
        damping: The ridge λ, in units of curvature eigenvalues.
    """
    dual = dual_gauss_newton(gradients)
    moved = _moved(gradients, gradients.theta_P + _ridge_step(gradients, dual, damping))
    train_QN = torch.cat([dual.in_span(rows) for _, rows in moved.train], dim=1)  # B ∇L(z_i)
    solved_QM = torch.cholesky_solve(dual.tests_QM, damped_factor(dual.gram_QQ.clone(), damping))
    products_NM = torch.cat([_with_tests(gradients, rows) for _, rows in moved.train]).double()
    return (products_NM - train_QN.T @ solved_QM) / damping


def _with_tests(gradients: SampleGradients, train: Rows) -> Tensor:
    """Return products of some training gradients with all test gradients [B M]."""
    return torch.cat([inner(train, test)[:, 0, :, 0] for _, test in gradients.test], dim=1)


def proposition_1(
    gradients: SampleGradients,
    damping: float,
    *,
    curvature: str = "hessian",
    tolerance: float = 1e-5,
    max_steps: int = 500,
) -> Tensor:
    r"""Scores [N M]: :math:`\nabla g^\top (C+\lambda)^{-1} [\nabla L_i + \nabla^2 L_i \Delta(D)]`.

    Positive = helpful. Proposition 1 of Wei et al. 2025, C the loss's true Hessian H, solved for
    the M test gradients and Δ(D) by conjugate gradients; ∇²L_i Δ(D) is one Hessian-vector product
    per example. Costs as :func:`bayestda.methods.conjugate_gradients.cg_influence` and N more
    products, and some vectors of P for each test example.

    Args:
        gradients: Gradients of one sample of θ.
        damping: The ridge λ. It must exceed minus H's lowest eigenvalue.
        curvature: Matrix C of the solution, ``hessian`` or ``gauss_newton``. ∇²L_i is always the
            Hessian.
        tolerance, max_steps: Stopping rule of conjugate gradients.

    Raises:
        UserError: not solved after ``max_steps``, C + λ is not positive definite, or the test
            gradients do not fit into memory.
    """
    products = training_products(gradients, curvature)
    size = 6 * len(gradients.test_data) * gradients.theta_P.nbytes
    require(
        gradients, size, "the test gradients in conjugate gradients",
        "raise it, attribute to some test examples at a time, or use generalised or influence_cg",
    )  # fmt: skip
    test_MP = torch.cat([gradients.vectors(rows)[:, 0] for _, rows in gradients.test])
    mean_1P = mean_gradient(gradients)[None]
    solved_VP = conjugate_gradients(
        lambda v: products(v) + damping * v, torch.cat([test_MP, -mean_1P]), tolerance, max_steps
    )
    solved_MP, delta_P = solved_VP[:-1], solved_VP[-1]
    turned = example_hessian_products(gradients, delta_P)
    scores = [
        (gradients.vectors(rows)[:, 0] + turned_BP) @ solved_MP.T
        for (_, rows), turned_BP in zip(gradients.train, turned, strict=True)
    ]
    return torch.cat(scores)


def _ridge_step(gradients: SampleGradients, dual: GaussNewton, damping: float) -> Tensor:
    """Return Δ(D) = −(C + λ)⁻¹∇R [P].

    ∇R = Bᵀ c̄ is in the span of B, so that (BᵀB + λ)⁻¹ Bᵀ c̄ = Bᵀ (BBᵀ + λ)⁻¹ c̄ needs the dual only.
    """
    factor_QQ = damped_factor(dual.gram_QQ.clone(), damping)
    mean_Q1 = dual.train_NK.flatten()[:, None] / len(gradients.train_data)
    solved_NK = torch.cholesky_solve(mean_Q1, factor_QQ)[:, 0].view_as(dual.train_NK)
    weights_NK = dual.weights(solved_NK)
    total_P = torch.zeros_like(gradients.theta_P)
    for chosen, rows in gradients.jacobian:
        jacobian_BKP = gradients.vectors(rows)
        total_P -= torch.einsum("bk,bkp->p", weights_NK[chosen].to(jacobian_BKP), jacobian_BKP)
    return total_P


def _moved(gradients: SampleGradients, theta_P: Tensor) -> SampleGradients:
    """Return gradients at other parameters of the same network."""
    return SampleGradients(
        gradients.network, gradients.objective, theta_P, train=gradients.train_data,
        test=gradients.test_data, memory_bytes=gradients.memory_bytes, ways=gradients.ways,
    )  # fmt: skip
