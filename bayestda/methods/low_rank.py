"""Influence functions in the curvature's leading eigenvectors, by Lanczos."""

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from bayestda.curvature.filters import ridge
from bayestda.curvature.gauss_newton import training_products
from bayestda.errors import UserError
from bayestda.gradients.blocks import Blocks, between, by_blocks, require
from bayestda.gradients.sample import SampleGradients


@by_blocks
def low_rank_influence(
    gradients: SampleGradients,
    damping: float,
    *,
    rank: int = 50,
    curvature: str = "gauss_newton",
    complement: bool = True,
    seed: int = 0,
) -> Blocks:
    r"""Scores [N M]: ∇gᵀ φ(C) ∇L_j with C's eigenvalues beyond the leading ones set to 0.

    Positive = helpful. Schioppa et al. 2022 (Arnoldi; for the symmetric C it is Lanczos, here
    ARPACK through scipy), who also drop the complement. Costs about 2 to 3 · rank products with C
    one after the other, and rank · P numbers.

    Args:
        gradients: Gradients of one sample of θ.
        damping: The ridge λ of φ(s) = 1/(s + λ).
        rank: Number of eigenvalues of largest size. From P on it is all of them, by P products.
        curvature: ``gauss_newton`` or ``hessian``.
        complement: Whether to keep the rest of the gradients with φ(0) = 1/λ. False drops it, as
            published.
        seed: Seed of the starting vector.

    Raises:
        UserError: the basis does not fit into memory; the complement has no damping.
    """
    if complement and damping == 0:
        raise UserError(
            "damping=0 leaves what is beyond the leading eigenvectors without curvature: give a "
            "positive damping, or complement=False"
        )
    rank = min(rank, gradients.layout.count)
    require(
        gradients, 4 * 8 * rank * gradients.layout.count, f"a basis of {rank} vectors",
        "lower the rank, or use influence_projected or influence_ekfac",
    )  # fmt: skip
    key = f"leading {rank} {curvature} {seed}"
    if key not in gradients.kept:
        gradients.kept[key] = leading(gradients, rank, curvature, seed)
    values_Q, basis_PQ = gradients.kept[key]
    at_zero = 1 / damping if complement else 0.0
    inside_Q = ridge(damping)(values_Q) - at_zero

    def conditioned(test_Pm: Tensor) -> Tensor:
        return basis_PQ @ (inside_Q[:, None] * (basis_PQ.T @ test_Pm)) + at_zero * test_Pm

    return between(gradients, conditioned)


def leading(
    gradients: SampleGradients, rank: int, curvature: str, seed: int
) -> tuple[Tensor, Tensor]:
    """Return eigenvalues [Q] of largest size, and eigenvectors [P Q], float64."""
    products, theta_P = training_products(gradients, curvature), gradients.theta_P

    def product(vector_P: np.ndarray) -> np.ndarray:
        vector = torch.as_tensor(vector_P.ravel(), dtype=theta_P.dtype, device=theta_P.device)
        return products(vector[None])[0].double().cpu().numpy()

    count = len(theta_P)
    if rank == count:  # ARPACK finds fewer than all
        eye_PP = torch.eye(count, dtype=theta_P.dtype, device=theta_P.device)
        return torch.linalg.eigh(products(eye_PP).double())
    operator = LinearOperator((count, count), matvec=product, dtype=np.float64)
    start = np.random.default_rng(seed).standard_normal(count)
    values, basis = eigsh(operator, k=rank, which="LM", v0=start)
    return torch.tensor(values, device=theta_P.device), torch.tensor(basis, device=theta_P.device)
