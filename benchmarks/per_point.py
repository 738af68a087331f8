"""Influence functions point by point, as torch-influence computes them; written anew.

For every test example: its gradient, the inverse curvature's product with it by conjugate gradients
or LiSSA, with products from double backward passes over the training batches; then for every
training example its gradient, computed again, and the inner product (Bae et al. 2022, "If Influence
Functions are the Answer, Then What is the Question?", sections 2 and 5; Koh and Liang 2017,
section 3). Scores are positive where the training example helps.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

Products = Callable[[Tensor], Tensor]  # v [P] -> H v [P]
Examples = tuple[Tensor, Tensor]


def influence(
    network: nn.Module, train: Examples, test: Examples, inverse: Callable[[Tensor], Tensor]
) -> Tensor:
    """Scores [N M]; ``inverse`` maps ∇L(z) [P] to (H + λ)⁻¹ ∇L(z)."""
    columns = []
    for x_1, y_1 in _points(test):
        solved_P = inverse(_gradient(network, x_1, y_1))
        columns.append(torch.stack([_gradient(network, *z) @ solved_P for z in _points(train)]))
    return torch.stack(columns, dim=1)


def by_cg(
    network: nn.Module, train: Examples, damping: float, tolerance: float
) -> Callable[[Tensor], Tensor]:
    """(H + λ)⁻¹ v by scipy's conjugate gradients, H of all training examples."""

    def solve(vector_P: Tensor) -> Tensor:
        def product(v: np.ndarray) -> np.ndarray:
            found = hessian_product(network, train, torch.tensor(v, dtype=vector_P.dtype))
            return found.double().numpy() + damping * v

        operator = LinearOperator((len(vector_P),) * 2, matvec=product, dtype=np.float64)
        solution, failed = cg(operator, vector_P.double().numpy(), rtol=tolerance, maxiter=1000)
        if failed:
            raise RuntimeError("conjugate gradients have not converged")
        return torch.tensor(solution, dtype=vector_P.dtype)

    return solve


def by_lissa(
    network: nn.Module, train: Examples, damping: float, *, scale: float, steps: int, batch: int
) -> Callable[[Tensor], Tensor]:
    """v ← g + (1 − λ/c) v − H_b v / c, and v / c at the end, one batch b a step in turn."""
    batches = list(zip(*(part.split(batch) for part in train), strict=True))

    def solve(vector_P: Tensor) -> Tensor:
        current_P = vector_P
        for step in range(steps):
            product_P = hessian_product(network, batches[step % len(batches)], current_P)
            current_P = vector_P + (1 - damping / scale) * current_P - product_P / scale
        return current_P / scale

    return solve


def hessian_product(network: nn.Module, data: Examples, vector_P: Tensor) -> Tensor:
    """H v [P] of the mean loss, by two backward passes."""
    parameters, (x_B, y_B) = list(network.parameters()), data
    loss = F.cross_entropy(network(x_B), y_B)
    first = torch.autograd.grad(loss, parameters, create_graph=True)
    return _flat(torch.autograd.grad(_flat(first) @ vector_P, parameters))


def _points(data: Examples) -> list[Examples]:
    return list(zip(*(part.split(1) for part in data), strict=True))


def _gradient(network: nn.Module, x_1: Tensor, y_1: Tensor) -> Tensor:
    loss = F.cross_entropy(network(x_1), y_1)
    return _flat(torch.autograd.grad(loss, list(network.parameters())))


def _flat(gradients: tuple[Tensor, ...]) -> Tensor:
    return parameters_to_vector(g.contiguous() for g in gradients)
