"""Per-example gradients of layers of known kinds, from their inputs a and cotangents δ.

Only trained parameters count: a frozen weight or bias has no part in a layer's rows.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayestda.gradients.factored import Factored, Formed
from bayestda.model.parameters import sole_owners

PLAIN = (nn.Linear, nn.Conv2d)  # a weight times inputs: their curvature has Kronecker factors
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
KNOWN = (*PLAIN, nn.LayerNorm, nn.GroupNorm, nn.Embedding, *_BATCH_NORMS)


def is_known(layer: nn.Module) -> bool:
    """Return whether :func:`rows_of_layer` has the formula of a layer with its options.

    Layers with further parameters make their weight of them, as ``torch.nn.utils.spectral_norm``.
    """
    if type(layer) not in KNOWN or not layer._parameters.keys() <= {"weight", "bias"}:
        return False
    if isinstance(layer, nn.Conv2d):
        by_number = not isinstance(layer.padding, str)
        return layer.groups == 1 and layer.padding_mode == "zeros" and by_number
    if isinstance(layer, nn.Embedding):
        return layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse
    return True


def known_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return layers of known kinds with trained parameters, none of which another module has."""
    owners = sole_owners(network)
    return {name: own for name, own in owners.items() if is_known(own) and trained(own)}


def trained(layer: nn.Module) -> dict[str, nn.Parameter]:
    """Return those of a layer's own parameters that require a gradient, the weight first."""
    own = layer.named_parameters(recurse=False)
    return {name: parameter for name, parameter in own if parameter.requires_grad}


def rows_of_layer(layer: nn.Module, activation: Tensor, delta: Tensor) -> Factored | Formed:
    """Return a layer's rows, given its input and its output's cotangents [B L ...].

    Under autocast these may have a lower precision than the layer's parameters, as rows have.
    """
    kind = next(iter(trained(layer).values())).dtype
    activation = activation.to(kind) if activation.is_floating_point() else activation
    delta = delta.to(kind)
    if isinstance(layer, PLAIN):
        return _plain_rows(layer, activation, delta)
    if isinstance(layer, nn.Embedding):
        return _embedding_rows(layer, activation, delta)
    if isinstance(layer, nn.LayerNorm):
        normed = F.layer_norm(activation, layer.normalized_shape, eps=layer.eps)
        return _scale_rows(layer, normed, delta)
    if isinstance(layer, _BATCH_NORMS):
        normed = F.batch_norm(activation, layer.running_mean, layer.running_var, eps=layer.eps)
    else:
        own = cast(nn.GroupNorm, layer)
        normed = F.group_norm(activation, own.num_groups, eps=own.eps)
    return _scale_rows(layer, normed.movedim(1, -1), delta.movedim(2, -1))


def positions(layer: nn.Module, activation: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a plain layer's weight meets [B T I], and cotangents [B L T O], by position.

    The inputs of a convolution's position are its patch, in the order [height, width, channel].
    """
    if isinstance(layer, nn.Conv2d):
        activation, delta = _patches(layer, activation), delta.movedim(2, -1)
    # Any dims between the first and the last are positions T.
    activation_BTI = activation.reshape(len(activation), -1, activation.shape[-1])
    return activation_BTI, delta.reshape(*delta.shape[:2], -1, delta.shape[-1])


def with_constant(layer: nn.Module, activation: Tensor) -> Tensor:
    """Return the inputs [... I] of a plain layer's trained parameters.

    A bias is the weight of a constant 1, which is then the last input. Where the weight is frozen,
    it is the only one.
    """
    own = trained(layer)
    if "weight" not in own:
        return activation.new_ones(*activation.shape[:-1], 1)
    return F.pad(activation, (0, 1), value=1.0) if "bias" in own else activation


def parts(layer: nn.Module, values_BLp: Tensor) -> dict[str, Tensor]:
    """Return a layer's formed rows [... p] as gradients [... *shape] of its parameters."""
    own = trained(layer)
    pieces = values_BLp.split([parameter.numel() for parameter in own.values()], dim=-1)
    named = dict(zip(own, pieces, strict=True))
    for name, parameter in own.items():
        if parameter.ndim == 4:  # a convolution's patches are [height, width, channel]
            out, channels, height, width = parameter.shape
            piece = named[name].unflatten(-1, (out, height, width, channels))
            named[name] = piece.movedim(-1, -3)
        else:
            named[name] = named[name].unflatten(-1, parameter.shape)
    return named


def joined_parts(layer: nn.Module, named: dict[str, Tensor]) -> Tensor:
    """Return a layer's rows [B L p] from those of its parameters: the inverse of :func:`parts`."""
    pieces = []
    for name, parameter in trained(layer).items():
        piece = named[name]
        if parameter.ndim == 4:
            piece = piece.unflatten(-1, parameter.shape).movedim(-3, -1).flatten(-4)
        pieces.append(piece)
    return torch.cat(pieces, dim=-1)


def _plain_rows(layer: nn.Module, activation: Tensor, delta: Tensor) -> Factored | Formed:
    """Rows δ aᵀ by their factors, or formed where several positions have to be summed."""
    own, (activation_BTI, delta_BLTO) = trained(layer), positions(layer, activation, delta)
    if activation_BTI.shape[1] == 1:
        activation_BI = with_constant(layer, activation_BTI[:, 0])
        return Factored(activation_BI, delta_BLTO[:, :, 0], "bias" in own)
    formed = [(delta_BLTO.mT @ activation_BTI[:, None]).flatten(2)] if "weight" in own else []
    if "bias" in own:
        formed.append(delta_BLTO.sum(2))
    return Formed(torch.cat(formed, dim=-1))


def _scale_rows(layer: nn.Module, normed: Tensor, delta: Tensor) -> Formed:
    """Rows of an elementwise weight and bias on normed inputs [B ... D]."""
    own, size = trained(layer), cast(Tensor, layer.weight).numel()
    delta_BLTD = delta.reshape(*delta.shape[:2], -1, size)
    normed_B1TD = normed.reshape(len(normed), 1, -1, size)
    formed = [(delta_BLTD * normed_B1TD).sum(2)] if "weight" in own else []
    if "bias" in own:
        formed.append(delta_BLTD.sum(2))
    return Formed(torch.cat(formed, dim=-1))


def _embedding_rows(layer: nn.Embedding, numbers: Tensor, delta: Tensor) -> Formed:
    delta_BLTD = delta.reshape(*delta.shape[:2], -1, delta.shape[-1])
    at_BLTD = numbers.reshape(len(numbers), 1, -1, 1).expand_as(delta_BLTD)
    values = delta_BLTD.new_zeros(*delta_BLTD.shape[:2], *layer.weight.shape)
    values = values.scatter_add(2, at_BLTD, delta_BLTD)
    if layer.padding_idx is not None:  # autograd gives it no gradient either
        values[:, :, layer.padding_idx] = 0
    return Formed(values.flatten(2))


def _patches(layer: nn.Conv2d, activation: Tensor) -> Tensor:
    """The inputs [B H W I] of each output position.

    Channels come last, so that copies of channels-last images move whole runs of memory.
    """
    height, width = cast(tuple[int, int], layer.padding)  # no string: see is_known
    patches = F.pad(activation.movedim(1, -1), (0, 0, width, width, height, height))
    for dim in (0, 1):  # a dilated kernel sees every d-th pixel of its reach
        dilation = layer.dilation[dim]
        reach = dilation * (layer.kernel_size[dim] - 1) + 1
        patches = patches.unfold(1 + dim, reach, layer.stride[dim])[..., ::dilation]
    return patches.permute(0, 1, 2, 4, 5, 3).flatten(3)
