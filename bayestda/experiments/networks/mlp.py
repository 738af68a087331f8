"""Multilayer perceptrons for tabular tasks (Wei et al. 2025, table 1)."""

from torch import nn


def mlp(num_features: int, num_outputs: int, *, width: int = 128, depth: int = 2) -> nn.Sequential:
    """Linear layers with ReLU between them: D-128-128-K unless told otherwise.

    Args:
        num_features: D.
        num_outputs: K, 1 for a regression.
        width: of each hidden layer.
        depth: number of hidden layers.
    """
    sizes = [num_features, *[width] * depth]
    hidden: list[nn.Module] = []
    for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
        hidden += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], num_outputs))
