"""How much fits: memory is bounded by a flag, not by the size of the data."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from bayestda.errors import UserError
from bayestda.model.parameters import Parameters
from bayestda.training.recipe import Recipe

SHARE = 0.6  # the rest is left to the system and to temporary tensors


def budget_bytes(memory_gb: float | None, device: torch.device, workers: int = 1) -> float:
    """What one worker may take: the flag's value, or most of the GPU or of free memory."""
    if memory_gb is None:
        on_gpu = device.type == "cuda"
        # All of a GPU's memory and not what is free: a stage that goes on finds the same chunks.
        total = torch.cuda.mem_get_info(device)[1] if on_gpu else psutil.virtual_memory().available
        return SHARE * total / workers
    return memory_gb * 1e9 / workers


def members_that_fit(network: nn.Module, recipe: Recipe, x_B: Any, memory_bytes: float) -> int:
    """Members to train together: all that fit on a GPU, 1 on a CPU (faster there).

    Args:
        network, recipe: what is trained.
        x_B: a batch of inputs, on the device to train on.
        memory_bytes: from :func:`budget_bytes`.
    """
    if next(network.parameters()).device.type == "cpu":
        return 1
    return max(1, int(memory_bytes / bytes_per_member(network, recipe, x_B)))


def bytes_per_member(network: nn.Module, recipe: Recipe, x_B: Any) -> int:
    """Memory of one stacked member: its vectors, and twice what the backward pass keeps."""
    kept_bytes = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept_bytes
        kept_bytes += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        network(x_B).sum()
    vectors = 5 + len(recipe.kept_epochs)  # θ, gradient, two moments, one temporary, checkpoints
    return vectors * 4 * Parameters(network).count + 2 * kept_bytes


class TooManyMembers(Exception):
    """A GPU has no room for this many members trained together (its only argument)."""


@contextmanager
def full_gpu_noticed(chunk: int) -> Iterator[None]:
    """Say how many members were too many when the GPU is out of memory.

    Raises:
        TooManyMembers: ``chunk``, where it is more than one.
        UserError: not even one member fits.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        if chunk > 1:
            raise TooManyMembers(chunk) from error
        raise UserError(
            "the GPU has not enough free memory: end what else runs on it, choose another "
            "with --device, lower --memory_gb, or use --device cpu"
        ) from None
