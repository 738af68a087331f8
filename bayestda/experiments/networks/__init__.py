"""Networks of the experiments: a model's name becomes a network with fresh parameters."""

from collections.abc import Callable

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
    if model not in _BUILDERS:
        raise UserError(f"unknown model {model!r}: choose one of {', '.join(_BUILDERS)}")
    task = tasks.task(task_name)
    return seeded(lambda: _BUILDERS[model](task), seed)


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a network whose parameters are drawn with ``seed``; PyTorch's generator is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()
