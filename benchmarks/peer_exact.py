"""What the sides of a row claim to compute, in float64."""

from collections.abc import Callable
from functools import partial

import per_point
import torch
import torch.nn.functional as F
from peer_cases import Case
from peer_sides.ours import attribute, gradients_of
from peer_sides.settings import settings
from torch import Tensor
from torch.func import functional_call, grad, jacrev, vmap

from bayestda.errors import UserError
from bayestda.model.measurements import margin

EXPLICIT = 5000  # parameters up to which a Hessian is formed
EVERY = 10  # of how many training examples one is solved for, where it is not


def grad_dot(case: Case) -> Tensor:
    """∇L(z_j)ᵀ ∇L(z)."""
    return (
        per_example(case, F.cross_entropy, case.train)
        @ per_example(case, F.cross_entropy, case.test).T
    )


def gauss_newton(case: Case, damping: float) -> Tensor:
    """By Woodbury: (BᵀB + λ)⁻¹ = (1 − Bᵀ (BBᵀ + λ)⁻¹ B)/λ with rows B of √S J / √N."""
    train_NP, test_MP = (
        per_example(case, F.cross_entropy, side) for side in (case.train, case.test)
    )
    rows_QP = _gauss_newton_rows(case)
    gram_QQ = rows_QP @ rows_QP.T
    gram_QQ.diagonal().add_(damping)
    inside_NM = (rows_QP @ train_NP.T).T @ torch.linalg.solve(gram_QQ, rows_QP @ test_MP.T)
    return (train_NP @ test_MP.T - inside_NM) / damping


def hessian_influence(case: Case, damping: float) -> Tensor:
    """Formed and solved; of a large network by conjugate gradients, whose residual is checked.

    There only every tenth training example is solved for; the rows of the others are NaN.
    """
    train_NP = per_example(case, F.cross_entropy, case.train)
    if train_NP.shape[1] <= EXPLICIT:
        matrix_PP = _hessian(case)
        matrix_PP.diagonal().add_(damping)
        solved_NP = torch.linalg.solve(matrix_PP, train_NP.T).T
    else:
        solved_NP = torch.full_like(train_NP, torch.nan)
        solved_NP[::EVERY] = _solved(case, train_NP[::EVERY], damping)
    return solved_NP @ per_example(case, F.cross_entropy, case.test).T


def leading_influence(case: Case) -> Tensor:
    """In the eigenvectors of the formed Hessian whose eigenvalues are largest in size."""
    own = settings(case)
    values_P, vectors_PP = torch.linalg.eigh(_hessian(case))
    leading = values_P.abs().argsort(descending=True)[: own.rank]
    train_NQ, test_MQ = (
        per_example(case, F.cross_entropy, side) @ vectors_PP[:, leading]
        for side in (case.train, case.test)
    )
    return (train_NQ / (values_P[leading] + own.damping)) @ test_MQ.T


def projected(case: Case, projection_Pk: Tensor) -> Tensor:
    """TRAK with one model and a given projection: φ(z)ᵀ (ΦᵀΦ)⁻¹ φ(z_j) (1 − p_j)."""
    projection_Pk = projection_Pk.double()
    train_Nk, test_Mk = (
        per_example(case, margin, side) @ projection_Pk for side in (case.train, case.test)
    )
    x_N, y_N = case.train
    with torch.no_grad():
        weight_N = torch.sigmoid(-margin(case.network(x_N), y_N))
    kernel_NM = train_Nk @ torch.linalg.solve(train_Nk.T @ train_Nk, test_Mk.T)
    return kernel_NM * weight_N[:, None]


def per_example(
    case: Case, value: Callable[[Tensor, Tensor], Tensor], data: tuple[Tensor, Tensor]
) -> Tensor:
    """Gradients [B P] of a function of one example's output and target."""
    function = grad(lambda named, x, y: value(_output(case, named, x[None]), y[None]).sum())
    found = vmap(function, in_dims=(None, 0, 0), chunk_size=64)(_named(case), *data)
    return torch.cat([g.flatten(1) for g in found.values()], dim=1)


def _gauss_newton_rows(case: Case) -> Tensor:
    """B [N·K P], with a root of S by its eigenvectors."""
    x_N, _ = case.train
    named = _named(case)
    jacobian = vmap(
        jacrev(lambda named, x: _output(case, named, x[None])[0]), in_dims=(None, 0), chunk_size=32
    )(named, x_N)
    jacobian_NKP = torch.cat([g.flatten(2) for g in jacobian.values()], dim=2)
    p_NK = _output(case, named, x_N).softmax(1)
    values_NK, vectors_NKK = torch.linalg.eigh(
        torch.diag_embed(p_NK) - p_NK[:, :, None] * p_NK[:, None]
    )
    root_NKK = vectors_NKK * (values_NK.clamp(min=0) / len(x_N)).sqrt()[:, None]
    return (root_NKK.mT @ jacobian_NKP).flatten(0, 1)


def _hessian(case: Case) -> Tensor:
    named, (x_N, y_N) = _named(case), case.train
    blocks = jacrev(jacrev(lambda named: F.cross_entropy(_output(case, named, x_N), y_N)))(named)
    sizes = {name: p.numel() for name, p in named.items()}
    return torch.cat(
        [torch.cat([blocks[a][b].reshape(sizes[a], sizes[b]) for b in named], dim=1) for a in named]
    )


def _solved(case: Case, train_NP: Tensor, damping: float) -> Tensor:
    """(H + λ)⁻¹ ∇L(z_j) [N P]; the residual is of a Hessian-vector product written apart."""
    from bayestda.curvature.conjugate_gradients import conjugate_gradients
    from bayestda.curvature.gauss_newton import training_products

    products = training_products(gradients_of(case), "hessian")
    solved_NP = conjugate_gradients(
        lambda v: products(v) + damping * v, train_NP, tolerance=1e-9, max_steps=100
    )
    for solved_P, train_P in zip(solved_NP, train_NP, strict=True):
        product_P = per_point.hessian_product(case.network, case.train, solved_P)
        residual = (product_P + damping * solved_P - train_P).norm() / train_P.norm()
        if residual > 1e-8:
            raise UserError(f"an exact solution has a residual of {residual:.1e}")
    return solved_NP


def _named(case: Case) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in case.network.named_parameters()}


def _output(case: Case, named: dict[str, Tensor], x_B: Tensor) -> Tensor:
    return functional_call(case.network, named, (x_B,))


def _ekfac(case: Case, curvature: str) -> Tensor:
    """By this library, which tests compare with the dense matrix."""
    damping = settings(case).damping
    return attribute(case, "influence_ekfac", damping=damping, curvature=curvature).double()


EXACT: dict[str, Callable[[Case], Tensor]] = {
    "Grad-Dot": grad_dot,
    "Gauss-Newton": lambda case: gauss_newton(case, settings(case).damping),
    "Hessian": lambda case: hessian_influence(case, settings(case).damping),
    "Hessian, LiSSA's damping": lambda case: hessian_influence(case, settings(case).lissa_damping),
    "Hessian, leading eigenvectors": leading_influence,
    "EK-FAC": partial(_ekfac, curvature="gauss_newton"),
    "EK-FAC, empirical Fisher": partial(_ekfac, curvature="empirical_fisher"),
}
