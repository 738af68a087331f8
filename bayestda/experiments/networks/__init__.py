"""Networks of the experiments: a model's name becomes a network with fresh parameters."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from bayestda.errors import UserError
from bayestda.experiments import tasks
from bayestda.experiments.networks.cnn import cnn2, cnn3

_BUILDERS = {"cnn2": cnn2, "cnn3": cnn3}


def build(model: str, task_name: str, seed: int) -> nn.Module:
    """Build a task's CNN, its initial parameters drawn with ``seed``.

    PyTorch's global generator is left as it is.

    Raises:
        UserError: There is no such model or task, or the task's images are too small.
    """
    return seeded(builder(model, task_name), seed)


def builder(model: str, task_name: str) -> Callable[[], nn.Module]:
    """Return what builds a task's CNN from PyTorch's global generator.

    Raises:
        UserError: There is no such model or task.
    """
    if model not in _BUILDERS:
        raise UserError(f"unknown model {model!r}: choose one of {', '.join(_BUILDERS)}")
    return partial(_BUILDERS[model], tasks.task(task_name))


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a network whose parameters are drawn with ``seed``; PyTorch's generator is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()
