"""Detect dropout, and draw masks that all runs of one seed share.

Anything random that a network does in training mode counts as dropout, in modules and in function
calls: dropout of layers, attention and recurrent networks, stochastic depth, randomised slopes,
noise.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bayestda.model.calls import outputs
from bayestda.model.examples import Data
from bayestda.model.objective import Objective
from bayestda.model.parameters import private_copy


def draws_masks(network: nn.Module, objective: Objective, batch: Data) -> bool:
    """Return whether a network in training mode draws random numbers.

    One batch is passed through a copy; random numbers were drawn if a generator's state changes.
    """
    copied_network, device = private_copy(network), batch.y.device
    set_mode(copied_network, training=True)
    with torch.no_grad(), dropout_masks(0, 0, device):
        states_before = generator_states(device)
        outputs(copied_network, objective, batch.x)
        states_after = generator_states(device)
    pairs = zip(states_after, states_before, strict=True)
    return not all(after.equal(before) for after, before in pairs)


def set_mode(network: nn.Module, *, training: bool) -> None:
    """Switch between training and evaluation mode; batch norm stays in evaluation mode.

    Its running statistics are no parameters, so training here must not change them.
    """
    network.train(training)
    for module in network.modules() if training else ():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.eval()


@contextmanager
def dropout_masks(seed: int | None, step: int, device: torch.device) -> Iterator[None]:
    """Seed the generators within the block from the seed and the step alone.

    A run without an example z_j so meets the masks of its base run. The global generators are
    restored at the end. With ``seed=None`` nothing is seeded.
    """
    if seed is None:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        # Runs have fewer steps than the factor, so that no two pairs (seed, step) share a seed.
        torch.manual_seed((seed * 1_000_003 + step) % 2**63)
        yield


def generator_states(device: torch.device) -> list[Tensor]:
    """Return states of the generators that a network on the device may draw from."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    if device.type == "mps":
        states.append(torch.mps.get_rng_state())
    return states
