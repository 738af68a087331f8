"""The tensors of a network by name, as they are kept and put into a network again.

Frozen weights may be shared by many networks: they are never written, but exchanged.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bayestda.errors import UserError
from bayestda.model.parameters import exchange

State = Mapping[str, Tensor]


def snapshot(network: nn.Module, template: nn.Module) -> State:
    """A network's tensors, copied, but for frozen weights that the template has as well."""
    held = template.state_dict(keep_vars=True)
    return {
        name: held[name].detach() if _is_shared(held.get(name), value) else value.clone()
        for name, value in network.state_dict().items()
    }


def _is_shared(own: Tensor | None, value: Tensor) -> bool:
    """Whether a network's own tensor is a frozen weight of this value."""
    return (
        isinstance(own, nn.Parameter)
        and not own.requires_grad
        and (own.shape, own.dtype, own.device) == (value.shape, value.dtype, value.device)
        and own.equal(value)
    )


def frozen_names(network: nn.Module) -> set[str]:
    """Names of parameters that require no gradient."""
    every = network.named_parameters(remove_duplicate=False)
    return {name for name, parameter in every if not parameter.requires_grad}


@torch.no_grad()
def load(network: nn.Module, sample: State | Path, optional: set[str], where: str) -> None:
    """Put a sample's tensors into the network, writing none that others share.

    Args:
        network: what they belong in.
        sample: tensors by name, or a safetensors file of them.
        optional: names that a sample may lack; of these the network keeps its own.
        where: what to call the sample.

    Raises:
        UserError: it is of another network, or damaged, or not finite.
    """
    if isinstance(sample, Path):
        where, sample = str(sample), _read(sample)
    own, frozen = dict(network.state_dict(keep_vars=True)), frozen_names(network)
    _check_names(own, sample, optional, where)
    for name, value in sample.items():
        if value.shape != own[name].shape:
            raise UserError(
                f"{where} does not fit the network that build makes: {name} has shape "
                f"{tuple(value.shape)}, the network's {tuple(own[name].shape)}"
            )
        if value.is_floating_point() and not value.isfinite().all():
            raise UserError(f"{where}: {name} has values that are not finite (did it diverge?)")
        if name not in frozen:
            own[name].copy_(value)
        elif not _is_shared(own[name], value := value.to(own[name])):
            exchange(network, own[name], nn.Parameter(value, requires_grad=False))


def _read(file: Path) -> State:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} is damaged or no safetensors file ({error})") from error


def _check_names(own: State, sample: State, optional: set[str], where: str) -> None:
    unknown = sorted(set(sample) - set(own))
    missing = sorted(
        name for name in set(own) - set(sample) - optional if not _is_redundant(name, own, sample)
    )
    if unknown or missing:
        raise UserError(
            f"{where} does not fit the network that build makes: "
            + " and ".join(
                f"{what} {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
                for what, names in (("unknown are", unknown), ("missing are", missing))
                if names
            )
        )


def _is_redundant(name: str, own: State, sample: State) -> bool:
    """A second name of a tied parameter that the sample holds, or a count of batches."""
    if name.endswith("num_batches_tracked"):
        return True
    return any(own[other].data_ptr() == own[name].data_ptr() for other in sample if other in own)
