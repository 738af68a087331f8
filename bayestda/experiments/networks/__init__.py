"""Architectures: a model's name becomes a network with fresh parameters."""

from collections.abc import Callable

import torch
from torch import nn

from bayestda.errors import UserError
from bayestda.experiments.networks.cnn import cnn2, cnn3

_BUILDERS = {"cnn2": cnn2, "cnn3": cnn3}


def build(model: str, task_name: str, seed: int) -> nn.Module:
    """A CNN whose initial parameters are drawn with ``seed`` (global generator untouched).

    Raises:
        UserError: no such model.
    """
    if model not in _BUILDERS:
        raise UserError(f"unknown model {model!r}: choose one of {', '.join(_BUILDERS)}")
    return seeded(lambda: _BUILDERS[model](task_name), seed)


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network whose parameters are drawn with ``seed`` (global generator untouched)."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()
