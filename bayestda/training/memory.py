"""Choose how many members fit into memory, which a flag bounds."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from bayestda.errors import UserError
from bayestda.model.parameters import Parameters
from bayestda.training.recipe import Recipe

SHARE = 0.6  # of all memory; the rest is left to the system and to temporary tensors


def budget_bytes(memory_gb: float | None, device: torch.device, workers: int = 1) -> float:
    """Return the bytes that one worker may take.

    Args:
        memory_gb: Limit for all workers together, in 10⁹ bytes; None: most of the GPU's memory, or
            on a CPU most of the free memory.
        device: The device to compute on.
        workers: Number of workers that share the memory.
    """
    if memory_gb is None:
        on_gpu = device.type == "cuda"
        # A GPU's total and not its free memory, so that a resumed stage has the same chunks.
        total = torch.cuda.mem_get_info(device)[1] if on_gpu else psutil.virtual_memory().available
        return SHARE * total / workers
    return memory_gb * 1e9 / workers


def members_that_fit(network: nn.Module, recipe: Recipe, x_B: Any, memory_bytes: float) -> int:
    """Return the number of members to train together: all that fit on a GPU, 1 on a CPU.

    On a CPU one at a time is faster.

    Args:
        network: The network to train.
        recipe: Hyperparameters of the training.
        x_B: A batch of inputs, on the device to train on.
        memory_bytes: Bytes to stay within, from :func:`budget_bytes`.
    """
    if next(network.parameters()).device.type == "cpu":
        return 1
    return max(1, int(memory_bytes / bytes_per_member(network, recipe, x_B)))


def bytes_per_member(network: nn.Module, recipe: Recipe, x_B: Any) -> int:
    """Estimate the memory of one stacked member, in bytes.

    It is the member's vectors of length P and twice what the forward pass keeps for the backward
    pass.
    """
    kept_bytes = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept_bytes
        kept_bytes += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        network(x_B).sum()
    vectors = 5 + len(recipe.kept_epochs)  # θ, gradient, two moments, one temporary, checkpoints
    # 4 bytes a float32. Gradients of what is kept take about as much again, hence the 2.
    return vectors * 4 * Parameters(network).count + 2 * kept_bytes


class TooManyMembers(Exception):
    """Report that a GPU has no room for this many members together (the only argument)."""


@contextmanager
def full_gpu_noticed(chunk: int) -> Iterator[None]:
    """Replace the error of a GPU without memory by one that says what to do.

    Raises:
        TooManyMembers: The GPU ran out of memory with ``chunk`` members, more than one.
        UserError: Not even one member fits.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        if chunk > 1:
            raise TooManyMembers(chunk) from error
        raise UserError(
            "the GPU has not enough free memory: end other programs that use it, choose another "
            "with --device, lower --memory_gb, or use --device cpu"
        ) from None
