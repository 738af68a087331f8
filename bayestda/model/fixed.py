"""What a network holds beside θ: frozen weights, buffers, plain attributes."""

from numbers import Number
from typing import Any

import torch
from torch import Tensor, nn


def fixed_parts(network: nn.Module) -> dict[str, Any]:
    """Return by name what two networks of one architecture may differ in, beside θ.

    These are frozen parameters, buffers (also those that no state dict holds), and tensors and
    numbers that are plain attributes of a module.

    Args:
        network: Any module.
    """
    parts: dict[str, Any] = {n: p for n, p in network.named_parameters() if not p.requires_grad}
    parts |= dict(network.named_buffers())
    for prefix, module in network.named_modules():
        for name, value in vars(module).items():
            public = not name.startswith("_") and name != "training"
            if public and isinstance(value, Tensor | Number) and not isinstance(value, nn.Module):
                parts[f"{prefix}.{name}" if prefix else name] = value
    return parts


def differing(one: nn.Module, other: nn.Module) -> list[str]:
    """Return the names of the fixed parts in which two networks differ."""
    first, second = fixed_parts(one), fixed_parts(other)
    names = sorted(first.keys() ^ second.keys())
    return names + [
        name for name in first.keys() & second.keys() if not _same(first[name], second[name])
    ]


@torch.no_grad()
def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)
        return alike and bool(((one == other) | ((one != one) & (other != other))).all())
    return type(one) is type(other) and (one == other or one != one)
