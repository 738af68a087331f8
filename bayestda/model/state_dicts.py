"""Keep the tensors of a network by name, and load them into a network again.

Frozen weights may be shared by many networks, so they are replaced and never overwritten.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from bayestda.errors import UserError
from bayestda.model.checkpoint_files import read_checkpoint
from bayestda.model.fixed import differing, fixed_parts
from bayestda.model.parameters import exchange
from bayestda.model.state_names import renamed

State = Mapping[str, Tensor]


def snapshot(network: nn.Module, template: nn.Module) -> State:
    """Return a network's tensors by name.

    Frozen weights that equal the template's are the template's own tensors; all others are copies.
    """
    tensors = template.state_dict(keep_vars=True)
    return {
        name: tensors[name].detach() if _is_shared(tensors.get(name), value) else value.clone()
        for name, value in network.state_dict().items()
    }


def _is_shared(tensor: Tensor | None, value: Tensor) -> bool:
    """Whether a tensor of a network is a frozen weight that equals a value."""
    return (
        isinstance(tensor, nn.Parameter)
        and not tensor.requires_grad
        and (tensor.shape, tensor.dtype, tensor.device) == (value.shape, value.dtype, value.device)
        and tensor.equal(value)
    )


def frozen_names(network: nn.Module) -> set[str]:
    """Return the names of the parameters that require no gradient."""
    parameters = network.named_parameters(remove_duplicate=False)
    return {name for name, parameter in parameters if not parameter.requires_grad}


@torch.no_grad()
def load(network: nn.Module, sample: State | Path, optional: set[str], where: str) -> set[str]:
    """Load a sample's tensors into the network, without writing tensors that others share.

    Returns the names of what was loaded.

    Args:
        network: The network to load into.
        sample: Tensors by name, or a checkpoint on disk, whose names may have a prefix
            (:mod:`bayestda.model.state_names`).
        optional: Names that a sample may lack; the network keeps its tensors of these names.
        where: A name of the sample for error messages.

    Raises:
        UserError: The sample belongs to another network, is damaged, or is not finite.
    """
    if isinstance(sample, Path):
        where, sample = str(sample), read_checkpoint(sample)
        sample = renamed(sample, network.state_dict().keys())
    tensors, frozen = dict(network.state_dict(keep_vars=True)), frozen_names(network)
    # All names are checked before the first tensor is written.
    _check_names(tensors, sample, optional, where)
    for name, value in sample.items():
        _check_value(name, value, tensors[name], where)
        if name not in frozen:
            tensors[name].copy_(value)
            continue
        # Other networks may share a frozen weight: an equal one stays, another one replaces it.
        value = value.to(tensors[name])
        if not _is_shared(tensors[name], value):
            exchange(network, tensors[name], nn.Parameter(value, requires_grad=False))
    return set(sample)


def check_what_files_lack(
    build: Callable[[], nn.Module], network: nn.Module, held: set[str], file: Path
) -> None:
    """Refuse a file that lacks what ``build`` draws anew at each call.

    Args:
        build: The function that makes the network.
        network: A network that it has made, with the file's tensors.
        held: Names of those.
        file: The file, for the message.

    Raises:
        UserError: Two networks that it makes differ in something that the file does not hold.
    """
    if fixed_parts(network).keys() <= held:
        return
    drawn = [name for name in differing(build(), network) if name not in held]
    if drawn:
        raise UserError(
            f"{file} holds no {', '.join(drawn[:3])}{', ...' if len(drawn) > 3 else ''}, and build "
            "makes other values of it at each call, so that the trained network cannot be known: "
            "save network.state_dict() whole, or let build seed what it draws (of a peft model, "
            "give its task_type, so that the head is trained and saved)"
        )


def _check_value(name: str, value: Tensor, tensor: Tensor, where: str) -> None:
    if value.shape != tensor.shape:
        raise UserError(
            f"{where} does not fit the network that build makes: {name} has shape "
            f"{tuple(value.shape)}, the network's {tuple(tensor.shape)}"
        )
    if value.is_floating_point() and not value.isfinite().all():
        raise UserError(f"{where}: {name} has values that are not finite (did it diverge?)")


def _check_names(tensors: State, sample: State, optional: set[str], where: str) -> None:
    unknown = sorted(set(sample) - set(tensors))
    absent = set(tensors) - set(sample) - optional
    missing = sorted(name for name in absent if not _is_redundant(name, tensors, sample))
    if unknown or missing:
        raise UserError(
            f"{where} does not fit the network that build makes: "
            + " and ".join(
                f"{what} {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
                for what, names in (("unknown are", unknown), ("missing are", missing))
                if names
            )
            + ": save the state dict of the network that build makes, or hand the loaded network "
            "to tda.Posterior.of_networks"
        )


def _is_redundant(name: str, tensors: State, sample: State) -> bool:
    """Whether a name may be missing: it is a batch counter, or tied to a tensor of the sample."""
    # Batch norm counts batches for an average over all of them, which evaluation does not use.
    if name.endswith("num_batches_tracked"):
        return True
    # safetensors store tied parameters, which share their memory, under one of their names only.
    address = tensors[name].data_ptr()
    return any(tensors[other].data_ptr() == address for other in sample if other in tensors)
