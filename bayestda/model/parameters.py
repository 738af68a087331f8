"""Read and write the trainable parameters of a network as one vector θ [P]."""

import copy
from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from bayestda.errors import UserError


class Parameters:
    """Hold the layout of θ: the parameters that require a gradient, in the network's order.

    Args:
        network: Any module; frozen parameters and buffers are no part of θ.

    Attributes:
        shapes: Shape of each parameter, by name.
        sizes: Number of values of each parameter, in the order of θ.
        count: Length P of θ.

    Raises:
        UserError: No parameter requires a gradient.
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
        """Return views of θ [..., P] by parameter name, each [..., *shape]."""
        pieces = theta.split(self.sizes, dim=-1)
        return {
            name: piece.unflatten(-1, shape) if len(shape) else piece.squeeze(-1)
            for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }

    def join(self, named: dict[str, Tensor]) -> Tensor:
        """Return θ [..., P] from tensors [..., *shape] by name: the inverse of :meth:`split`."""
        pieces = []
        for name, shape in self.shapes.items():
            tensor = named[name]
            # Only the parameter's own dims are flattened: leading ones, such as members, stay.
            pieces.append(tensor.reshape(*tensor.shape[: tensor.ndim - len(shape)], -1))
        return torch.cat(pieces, dim=-1)

    def read(self, network: nn.Module) -> Tensor:
        """Return a copy of the network's θ [P]."""
        return self.join({name: network.get_parameter(name).detach() for name in self.shapes})

    @torch.no_grad()
    def write(self, network: nn.Module, theta_P: Tensor) -> None:
        """Copy θ [P] into the network, keeping its memory layout (such as channels-last)."""
        for name, value in self.split(theta_P).items():
            network.get_parameter(name).copy_(value)


def first_trained(network: nn.Module) -> nn.Parameter:
    """Return the first parameter of θ, whose device and type are those of scores.

    A frozen trunk below may have another type.

    Raises:
        UserError: No parameter requires a gradient.
    """
    return network.get_parameter(next(iter(Parameters(network).shapes)))


def thetas(networks: Sequence[nn.Module]) -> Tensor:
    """Return θ [S P] of networks of one architecture."""
    layout = Parameters(networks[0])
    return torch.stack([layout.read(network) for network in networks])


def private_copy(network: nn.Module) -> nn.Module:
    """Copy a network's trainable parameters and buffers; share its frozen parameters."""
    # deepcopy takes objects that its memo already knows instead of copying them.
    frozen = {id(p): p for p in network.parameters() if not p.requires_grad}
    return copied(network, frozen)


def sole_owners(network: nn.Module) -> dict[str, nn.Module]:
    """Return, by name, the modules with parameters that no other module has."""
    modules = dict(network.named_modules())
    parameters = {name: list(m.parameters(recurse=False)) for name, m in modules.items()}
    owners = Counter(id(p) for direct in parameters.values() for p in direct)
    return {
        name: module
        for name, module in modules.items()
        if parameters[name] and all(owners[id(p)] == 1 for p in parameters[name])
    }


def exchange(network: nn.Module, old: nn.Parameter, new: nn.Parameter) -> None:
    """Replace a parameter by another one, under all names that it has in the network."""
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            if parameter is old:
                setattr(module, name, new)


def channels_last_copy(network: nn.Module) -> nn.Module:
    """Copy a network, with convolutions in channels-last layout, which is faster on a CPU.

    Frozen weights are shared as in :func:`private_copy`, except those of convolutions: changing
    their layout would change it for all networks that share them.
    """
    shared = {id(p): p for p in network.parameters() if not p.requires_grad and p.ndim != 4}
    return copied(network, shared)._apply(_channels_last)


def _channels_last(tensor: Tensor) -> Tensor:
    # Four dims only: Module.to(memory_format=torch.channels_last) also converts five and fails.
    return tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def copied(network: nn.Module, shared: dict[int, Any] | None = None) -> nn.Module:
    """Copy a network, except for the objects in ``shared``.

    Gradients of the copy are dense, as optimisers and methods need them.

    Args:
        network: Any module.
        shared: Objects that the copy refers to instead of copying them, by their ``id``.

    Raises:
        UserError: The network keeps tensors that cannot be copied.
    """
    try:
        return _dense(copy.deepcopy(network, shared))
    except TypeError as error:
        raise UserError(
            f"the network cannot be copied ({error}): keep locks, files, generators and "
            "connections out of it, or give it a __deepcopy__"
        ) from error
    except RuntimeError as error:
        if "deepcopy" not in str(error):
            raise
        raise UserError(
            "the network cannot be copied, because it keeps a tensor computed from its "
            "parameters: if it is an activation of an earlier call, let it keep it detached; "
            "weight_norm and spectral_norm of torch.nn.utils keep one, too: use those of "
            "torch.nn.utils.parametrizations"
        ) from error


def _dense(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            module.sparse = False  # the same gradients, but stored whole
    return network
