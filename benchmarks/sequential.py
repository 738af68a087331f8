"""Final-model-only attribution as the authors' tabular code goes about it: one run after another.

Written from the paper's protocol: a DataLoader run for every left-out point and seed, the point
deleted from the data; one solution of a linear system per left-out point; gradients computed again
whenever they are needed.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from bayestda.model.examples import Data
from bayestda.training.recipe import Recipe


def further_losses(
    network: nn.Module, train: Data, test: Data, recipe: Recipe, seed: int, left_out: int | None
) -> Tensor:
    """Test losses [E M] after every epoch of further training without one point."""
    network = copy.deepcopy(network).train()
    kept = [position for position in range(len(train)) if position != left_out]
    loader = DataLoader(
        Subset(TensorDataset(train.x, train.y), kept), batch_size=recipe.batch_size, shuffle=True,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    optimizer, losses = torch.optim.SGD(network.parameters(), lr=recipe.lr), []
    for _ in range(recipe.epochs):
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.mse_loss(network(x)[:, 0], y).backward()
            optimizer.step()
        with torch.no_grad():
            losses.append((network(test.x)[:, 0] - test.y) ** 2)
    return torch.stack(losses)


def point_gradient(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """∇L of one example [P]."""
    loss = (network(x[None])[0, 0] - y) ** 2
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    return torch.cat([gradient.flatten() for gradient in gradients])


def influence_of_point(
    network: nn.Module, train: Data, test: Data, left_out: int, solve: Callable
) -> Tensor:
    """Scores [M] of one left-out point: a solution, then every test gradient anew."""
    solved_P = solve(network, train, point_gradient(network, train.x[left_out], train.y[left_out]))
    return torch.stack(
        [point_gradient(network, x, y) @ solved_P for x, y in zip(test.x, test.y, strict=True)]
    )


def gauss_newton_product(network: nn.Module, data: Data, vector_P: Tensor) -> Tensor:
    """(2/N) JᵀJ v of a regression's mean squared error, by backward passes."""
    parameters = list(network.parameters())
    output_N = network(data.x)[:, 0]
    u_N = torch.zeros_like(output_N, requires_grad=True)
    pulled = torch.autograd.grad(output_N, parameters, u_N, create_graph=True)
    flat_P = torch.cat([part.flatten() for part in pulled])
    (pushed_N,) = torch.autograd.grad(flat_P, u_N, vector_P, retain_graph=True)
    back = torch.autograd.grad(output_N, parameters, 2 / len(data) * pushed_N)
    return torch.cat([part.flatten() for part in back])


def conjugate_gradients(damping: float, steps: int) -> Callable[..., Tensor]:
    """A solver with a fixed number of steps on all of the data."""

    def solve(network: nn.Module, data: Data, right_P: Tensor) -> Tensor:
        solution_P, residual_P = torch.zeros_like(right_P), right_P.clone()
        direction_P, square = right_P.clone(), right_P @ right_P
        for _ in range(steps):
            product_P = gauss_newton_product(network, data, direction_P) + damping * direction_P
            length = square / (direction_P @ product_P)
            solution_P += length * direction_P
            residual_P -= length * product_P
            previous, square = square, residual_P @ residual_P
            direction_P = residual_P + square / previous * direction_P
        return solution_P

    return solve


def lissa(damping: float, scale: float, steps: int, batch: int) -> Callable[..., Tensor]:
    """The truncated series, a batch a step."""

    def solve(network: nn.Module, data: Data, right_P: Tensor) -> Tensor:
        sum_P = right_P.clone()
        for step in range(steps):
            chosen = torch.arange(step * batch, (step + 1) * batch) % len(data)
            product_P = gauss_newton_product(network, data.take(chosen), sum_P)
            sum_P = right_P + sum_P - (product_P + damping * sum_P) / scale
        return sum_P / scale

    return solve
