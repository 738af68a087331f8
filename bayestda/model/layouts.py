"""Choose the memory layout of a network's copies."""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from bayestda.model.calls import outputs
from bayestda.model.examples import Examples
from bayestda.model.objective import Objective
from bayestda.model.parameters import channels_last_copy, private_copy

_GROUPED: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()  # what has been looked at


def fast_copy(network: nn.Module, objective: Objective, data: Examples) -> nn.Module:
    """Copy a network, with convolutions in channels-last layout where that is safe.

    The backward pass of group normalisation can end the process in that layout (torch 2.13, CPU),
    so networks that call it keep their own.

    Args:
        network: Any module.
        objective: The objective, which calls it.
        data: Examples, the first of which is passed through a network with convolutions.
    """
    if not any(parameter.ndim == 4 for parameter in network.parameters()):
        return private_copy(network)  # the layouts are the same
    if network not in _GROUPED:
        _GROUPED[network] = _normalises_groups(network, objective, data)
    return private_copy(network) if _GROUPED[network] else channels_last_copy(network)


def _normalises_groups(network: nn.Module, objective: Objective, data: Examples) -> bool:
    """Whether the network has group norm as a layer, or calls it as a function."""
    if any(isinstance(module, nn.GroupNorm) for module in network.modules()):
        return True
    seen = _Operators()
    with torch.no_grad(), seen:
        outputs(private_copy(network).eval(), objective, data.take(slice(1)).x)
    return any("group_norm" in name for name in seen.names)


class _Operators(TorchDispatchMode):
    """Note the names of the operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.names.add(str(function))
        return function(*args, **(kwargs or {}))
