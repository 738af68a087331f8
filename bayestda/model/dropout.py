"""Dropout in training: whether a network has any, and masks that runs of one seed share.

Whatever a network draws in training mode counts as dropout, be it in a module or a function call:
dropout of layers, attention and recurrent networks, stochastic depth, randomised slopes, noise.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bayestda.model.examples import Data
from bayestda.model.objective import Objective
from bayestda.model.parameters import private_copy


def draws_masks(network: nn.Module, objective: Objective, batch: Data) -> bool:
    """Whether training mode draws random numbers, seen from the generators after a batch."""
    copied, device = private_copy(network), batch.y.device
    set_mode(copied, training=True)
    with torch.no_grad(), dropout_masks(0, 0, device):
        before = _states(device)
        objective.output(copied, batch.x)
        after = _states(device)
    return not all(now.equal(then) for now, then in zip(after, before, strict=True))


def set_mode(network: nn.Module, *, training: bool) -> None:
    """Training mode draws masks; batch norm's statistics are no parameters and stay as they are."""
    network.train(training)
    for module in network.modules() if training else ():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.eval()


@contextmanager
def dropout_masks(seed: int | None, step: int, device: torch.device) -> Iterator[None]:
    """Masks depend on the seed and the step alone: a run without z_j meets those of its base run.

    The global generators are as before afterwards.
    """
    if seed is None:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed((seed * 1_000_003 + step) % 2**63)
        yield


def _states(device: torch.device) -> list[Tensor]:
    """Of the generators that a network on the device may draw from."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    if device.type == "mps":
        states.append(torch.mps.get_rng_state())
    return states
