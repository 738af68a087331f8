"""The trainable parameters of a network as one vector θ [P]."""

import copy
from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from bayestda.errors import UserError


class Parameters:
    """Layout of θ: the parameters that require a gradient, in the network's own order.

    Args:
        network: any module; frozen parameters and buffers stay in it.

    Raises:
        UserError: no parameter requires a gradient.
    """

    def __init__(self, network: nn.Module):
        trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
        if not trainable:
            raise UserError(
                "no parameter of the network requires a gradient: call requires_grad_(True) "
                "on the parameters that attribution should go through"
            )
        self.shapes = {name: p.shape for name, p in trainable.items()}
        self.sizes = [prod(shape) for shape in self.shapes.values()]
        self.count = sum(self.sizes)

    def split(self, theta: Tensor) -> dict[str, Tensor]:
        """Views of θ [..., P] by name, each [..., *shape]."""
        pieces = theta.split(self.sizes, dim=-1)
        return {
            name: piece.unflatten(-1, shape) if len(shape) else piece.squeeze(-1)
            for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }

    def join(self, named: dict[str, Tensor]) -> Tensor:
        """θ [..., P] of tensors [..., *shape]: the inverse of :meth:`split`."""
        pieces = []
        for name, shape in self.shapes.items():
            tensor = named[name]
            pieces.append(tensor.reshape(*tensor.shape[: tensor.ndim - len(shape)], -1))
        return torch.cat(pieces, dim=-1)

    def read(self, network: nn.Module) -> Tensor:
        """A copy of the network's θ [P]."""
        return self.join({name: network.get_parameter(name).detach() for name in self.shapes})

    @torch.no_grad()
    def write(self, network: nn.Module, theta_P: Tensor) -> None:
        """Copy θ into the network, keeping its memory layout (channels-last stays so)."""
        for name, value in self.split(theta_P).items():
            network.get_parameter(name).copy_(value)


def thetas(networks: Sequence[nn.Module]) -> Tensor:
    """θ [S P] of networks of one architecture."""
    layout = Parameters(networks[0])
    return torch.stack([layout.read(network) for network in networks])


def private_copy(network: nn.Module) -> nn.Module:
    """A copy with trainable parameters and buffers of its own; frozen parameters are shared."""
    frozen = {id(p): p for p in network.parameters() if not p.requires_grad}
    return copied(network, frozen)


def sole_owners(network: nn.Module) -> dict[str, nn.Module]:
    """Modules with parameters, none of which another module has, too."""
    modules = dict(network.named_modules())
    owners = Counter(id(p) for module in modules.values() for p in module.parameters(recurse=False))
    return {
        name: module
        for name, module in modules.items()
        if (own := list(module.parameters(recurse=False))) and all(owners[id(p)] == 1 for p in own)
    }


def exchange(network: nn.Module, old: nn.Parameter, new: nn.Parameter) -> None:
    """Put a parameter in the place of another one, under all of its names."""
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            if parameter is old:
                setattr(module, name, new)


def channels_last_copy(network: nn.Module) -> nn.Module:
    """A private copy with convolutions in channels-last layout, the faster one on a CPU.

    Frozen weights of convolutions are copied, too: shared ones keep the layout that others know.
    """
    shared = {id(p): p for p in network.parameters() if not p.requires_grad and p.ndim != 4}
    return copied(network, shared)._apply(_channels_last)


def _channels_last(held: Tensor) -> Tensor:
    """What has four dims; ``Module.to`` would ask volumes for the layout, too, and fail."""
    return held.to(memory_format=torch.channels_last) if held.ndim == 4 else held


def copied(network: nn.Module, shared: dict[int, Any] | None = None) -> nn.Module:
    """A copy, in which tensors with these ids are those that are given.

    Raises:
        UserError: the network keeps tensors that cannot be copied.
    """
    try:
        return copy.deepcopy(network, shared)
    except RuntimeError as error:
        if "deepcopy" not in str(error):
            raise
        raise UserError(
            "the network keeps a tensor that it has made of its parameters, as weight_norm and "
            "spectral_norm of torch.nn.utils do, and cannot be copied: use those of "
            "torch.nn.utils.parametrizations"
        ) from error
