"""The published algorithm (Nguyen et al. 2023, released code), plainly: the slow side.

Everything is computed as often as there: LOO trains on from each checkpoint for another full run
and measures the base loss again for every z_j; Grad-Dot and Grad-Cos share one pass, in which every
training gradient is computed again for every test example (N·M + M gradients); influence runs one
LiSSA recursion per test example and then computes every training gradient again. Batch sizes are
the released ones. Left out, in this side's favour: files written after every example, progress
bars, and graphs of the gradients that nothing differentiates.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from bayestda.experiments.networks.cnn import PooledGELU
from bayestda.methods.lissa import PUBLISHED
from bayestda.model.examples import Data
from bayestda.retraining.additional_step import step_recipe
from bayestda.training.recipe import Recipe

TEST_BATCH = 64


@dataclass(frozen=True)
class Checkpoint:
    """What the published scripts load for one seed and checkpoint.

    Attributes:
        network: with the checkpoint's parameters in place; never changed.
        train, test: (x, label, position) from :func:`dataset`, N and M examples.
        recipe: how the checkpoint was trained.
        seed: draws the order of the data, for every retraining anew.
    """

    network: nn.Module
    train: TensorDataset
    test: TensorDataset
    recipe: Recipe
    seed: int


def dataset(data: Data) -> TensorDataset:
    """Examples with their positions."""
    return TensorDataset(data.x, data.y, torch.arange(len(data.y)))


def shuffled(train: Dataset, recipe: Recipe, seed: int) -> DataLoader:
    """Batches in a random order; seeds the global generator, which the loader draws from."""
    torch.manual_seed(seed)
    return DataLoader(train, batch_size=recipe.batch_size, shuffle=True)


def train(
    network: nn.Module, batches: DataLoader, recipe: Recipe, left_out: int | None = None
) -> list[dict[str, Tensor]]:
    """Train the network in place; the loss of the example ``left_out`` is set to 0.

    Returns:
        Parameters by name after each of the last ``recipe.keep`` epochs.
    """
    network.train()
    optimizer = torch.optim.Adam(
        network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay
    )
    kept = []
    for epoch in range(recipe.epochs):
        for x, y, position in batches:
            optimizer.zero_grad()
            loss_B = F.cross_entropy(network(x), y, reduction="none")
            if left_out is not None:
                loss_B = loss_B.masked_fill(position == left_out, 0.0)
            loss_B.mean().backward()
            optimizer.step()
        if epoch >= recipe.epochs - recipe.keep:
            kept.append(copy.deepcopy(network.state_dict()))
    return kept


def plain(network: nn.Sequential) -> nn.Sequential:
    """The network of PyTorch's own modules, as published, with the same parameters in place."""
    pooled = [
        nn.Sequential(nn.GELU(), nn.MaxPool2d(2)) if isinstance(layer, PooledGELU) else layer
        for layer in copy.deepcopy(network)
    ]
    return nn.Sequential(*pooled)


@torch.no_grad()
def losses(network: nn.Module, test: Dataset) -> Tensor:
    """Cross-entropy on each test example [M]."""
    network.eval()
    batches = DataLoader(test, batch_size=TEST_BATCH)
    return torch.cat([F.cross_entropy(network(x), y, reduction="none") for x, y, _ in batches])


def leave_one_out(checkpoint: Checkpoint, left_out: Iterable[int]) -> Tensor:
    """Loss after training on without z_j less the checkpoint's loss, for some z_j [J M]."""
    recipe, rows = replace(checkpoint.recipe, keep=1), []
    for j in left_out:
        network = copy.deepcopy(checkpoint.network)
        base_M = losses(network, checkpoint.test)
        train(network, shuffled(checkpoint.train, recipe, checkpoint.seed), recipe, j)
        rows.append(losses(network, checkpoint.test) - base_M)
    return torch.stack(rows)


def additional_training_step(checkpoint: Checkpoint, examples: Iterable[int]) -> Tensor:
    """Loss after a fresh Adam step on z_j less the loss before, for some z_j [J M]."""
    recipe, rows = step_recipe(checkpoint.recipe, "adam"), []
    for j in examples:
        network = copy.deepcopy(checkpoint.network)
        base_M = losses(network, checkpoint.test)
        train(network, DataLoader(Subset(checkpoint.train, [j])), recipe)
        rows.append(losses(network, checkpoint.test) - base_M)
    return torch.stack(rows)


def gradient_scores(checkpoint: Checkpoint, tests: Iterable[int]) -> dict[str, Tensor]:
    """Grad-Dot and Grad-Cos with some test examples, each [N T]."""
    network = checkpoint.network.eval()
    scores: dict[str, list[list[float]]] = {"grad_dot": [], "grad_cos": []}
    for x, y, _ in _singly(Subset(checkpoint.test, list(tests))):
        test_P = _flat(_gradient(network, x, y))
        dots, cosines = [], []
        for x_train, y_train, _ in _singly(checkpoint.train):
            train_P = _flat(_gradient(network, x_train, y_train))
            dots.append(torch.dot(test_P, train_P).item())
            cosines.append(F.cosine_similarity(test_P, train_P, dim=0).item())
        scores["grad_dot"].append(dots)
        scores["grad_cos"].append(cosines)
    return {name: torch.tensor(columns, dtype=torch.float64).T for name, columns in scores.items()}


def influence(checkpoint: Checkpoint, tests: Iterable[int]) -> Tensor:
    """Influence of every training example on some test examples [N T], by LiSSA."""
    network, columns = checkpoint.network.eval(), []
    for x, y, _ in _singly(Subset(checkpoint.test, list(tests))):
        solution = _lissa(network, checkpoint.train, _gradient(network, x, y))
        columns.append(
            [
                -sum(
                    (g * v).sum()
                    for g, v in zip(_gradient(network, *example[:2]), solution, strict=True)
                ).item()
                for example in _singly(checkpoint.train)
            ]
        )
    return torch.tensor(columns, dtype=torch.float64).T


def _lissa(network: nn.Module, train: Dataset, gradient: list[Tensor]) -> list[Tensor]:
    """One pass of the recursion over the training examples, started at the gradient."""
    keep, scale = 1 - PUBLISHED.damping, PUBLISHED.scale
    estimate = gradient
    for x, y, _ in DataLoader(train, batch_size=PUBLISHED.batch_size):
        product = _hessian_product(network, x, y, estimate)
        estimate = [
            g + keep * v - hv / scale for g, v, hv in zip(gradient, estimate, product, strict=True)
        ]
    return [v / scale for v in estimate]


def _hessian_product(
    network: nn.Module, x_B: Tensor, y_B: Tensor, vector: list[Tensor]
) -> tuple[Tensor, ...]:
    """H v by differentiating the gradient of the batch's mean loss."""
    parameters = list(network.parameters())
    loss = F.cross_entropy(network(x_B), y_B)
    gradient = torch.autograd.grad(loss, parameters, create_graph=True)
    return torch.autograd.grad(gradient, parameters, grad_outputs=vector)


def _gradient(network: nn.Module, x_B: Tensor, y_B: Tensor) -> list[Tensor]:
    loss = F.cross_entropy(network(x_B), y_B)
    return list(torch.autograd.grad(loss, list(network.parameters())))


def _flat(gradient: list[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in gradient])


def _singly(examples: Dataset) -> DataLoader:
    return DataLoader(examples, batch_size=1)
