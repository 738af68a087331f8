"""Find which positions of sequences are padding, from the masks among a batch's inputs."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

# Names of masks [B T] that are true on real positions, and of those that are true on padding.
REAL = ("attention_mask", "decoder_attention_mask", "encoder_attention_mask", "mask", "input_mask",
        "token_mask", "valid_mask")  # fmt: skip
PADDING = ("src_key_padding_mask", "tgt_key_padding_mask", "key_padding_mask", "padding_mask",
           "pad_mask")  # fmt: skip


def real_positions(network: nn.Module, x: Any) -> dict[str, Tensor]:
    """Return masks [B T] that are true on real positions, by the mask's name.

    Masks are told by their names (:data:`REAL`, :data:`PADDING`), at any depth of mappings, and by
    having two dims of 0 and 1. Several inputs in a tuple have the names of the network's arguments.

    Args:
        network: The network.
        x: A batch of inputs.
    """
    if isinstance(x, tuple | list):
        names = list(signature(network.forward).parameters)
        x = dict(zip(names, x, strict=False))
    found: dict[str, Tensor] = {}
    for name, value in x.items() if isinstance(x, Mapping) else ():
        if isinstance(value, Mapping):
            found |= real_positions(network, value)
        elif name in (*REAL, *PADDING) and _is_mask(value):
            found[name] = (value != 0) if name in REAL else (value == 0)
    return found


def _is_mask(value: Any) -> bool:
    """Return whether a value is a tensor [B T] of 0 and 1; an additive mask in floats is not."""
    if not isinstance(value, Tensor) or value.ndim != 2:
        return False
    if not value.is_floating_point():
        return True
    # Zeros alone may be an additive mask of a batch without padding.
    return bool(((value == 0) | (value == 1)).all() and value.any())


def mask_of(masks: Mapping[str, Tensor], layer: str, positions: int) -> Tensor | None:
    """Return the mask that a layer's positions have; None: there is none of their number.

    Args:
        masks: Masks [B T] by name.
        layer: The layer's name. A decoder's mask is for layers whose name has ``decoder``.
        positions: The number T of the layer's positions.
    """
    fitting = {name: mask for name, mask in masks.items() if mask.shape[1] == positions}
    decoding = {
        name: mask for name, mask in fitting.items()
        if name.startswith(("decoder", "tgt")) == ("decoder" in layer)
    }  # fmt: skip
    return next(iter((decoding or fitting).values()), None)


def without_padding(a_BTI: Tensor, delta_BLTO: Tensor, mask_BT: Tensor | None) -> Tensor:
    """Return inputs of a layer's positions, 0 at padding that no output depends on.

    Args:
        a_BTI: Inputs by position, a constant 1 for the bias among them.
        delta_BLTO: Cotangents by position. Padding that has one counts, as the network uses it.
        mask_BT: True on real positions; None: all are real.
    """
    if mask_BT is None or bool(mask_BT.all()):
        return a_BTI
    used_BT = mask_BT.to(a_BTI.device) | (delta_BLTO != 0).any(-1).any(1)
    return torch.where(used_BT[..., None], a_BTI, 0)
