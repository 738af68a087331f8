"""Per-example gradients of layers of known kinds, from their inputs a and cotangents δ."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayestda.gradients.factored import Factored, Formed

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
KNOWN = (nn.Linear, nn.Conv2d, nn.LayerNorm, nn.GroupNorm, nn.Embedding, *_BATCH_NORMS)


def is_known(layer: nn.Module) -> bool:
    """Whether :func:`rows_of_layer` has the formula of a layer, with the options that it has.

    Those with further parameters make their weight of them, as ``torch.nn.utils.spectral_norm``.
    """
    if type(layer) not in KNOWN or not layer._parameters.keys() <= {"weight", "bias"}:
        return False
    if isinstance(layer, nn.Conv2d):
        return (
            layer.groups == 1
            and layer.dilation == (1, 1)
            and layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str)
        )
    if isinstance(layer, nn.Embedding):
        return layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse
    return True


def rows_of_layer(layer: nn.Module, activation: Tensor, delta: Tensor) -> Factored | Formed:
    """Rows of a layer from its input and its output's cotangents [B L ...]."""
    if isinstance(layer, nn.LayerNorm):
        normed = F.layer_norm(activation, layer.normalized_shape, eps=layer.eps)
        return _scale_rows(layer, normed, delta)
    if isinstance(layer, _BATCH_NORMS):
        normed = F.batch_norm(activation, layer.running_mean, layer.running_var, eps=layer.eps)
        return _scale_rows(layer, normed.movedim(1, -1), delta.movedim(2, -1))
    if isinstance(layer, nn.GroupNorm):
        normed = F.group_norm(activation, layer.num_groups, eps=layer.eps)
        return _scale_rows(layer, normed.movedim(1, -1), delta.movedim(2, -1))
    if isinstance(layer, nn.Embedding):
        return _embedding_rows(layer, activation, delta)
    if isinstance(layer, nn.Conv2d):
        activation = _patches(layer, activation)
        delta = delta.movedim(2, -1)
    # any dims between the first and the last are positions T
    activation_BTI = activation.reshape(len(activation), -1, activation.shape[-1])
    delta_BLTO = delta.reshape(*delta.shape[:2], -1, delta.shape[-1])
    if activation_BTI.shape[1] == 1:
        activation_BI, delta_BLO = activation_BTI[:, 0], delta_BLTO[:, :, 0]
        has_bias = layer.bias is not None
        if has_bias:  # a bias is a weight on a constant 1
            activation_BI = F.pad(activation_BI, (0, 1), value=1.0)
        return Factored(activation_BI, delta_BLO, has_bias)
    formed = [(delta_BLTO.mT @ activation_BTI[:, None]).flatten(2)]
    if layer.bias is not None:
        formed.append(delta_BLTO.sum(2))
    return Formed(torch.cat(formed, dim=-1))


def parts(layer: nn.Module, values_BLp: Tensor) -> dict[str, Tensor]:
    """Weight and bias gradients [... *shape] of a hooked layer's formed rows [... p]."""
    weight = cast(Tensor, layer.weight)
    bias = getattr(layer, "bias", None)
    if bias is None:
        flat, found = values_BLp, {}
    else:
        flat, bias_BLO = values_BLp.split([weight.numel(), bias.numel()], dim=-1)
        found = {"bias": bias_BLO}
    if isinstance(layer, nn.Conv2d):  # patches are [height, width, channel]
        out, channels, height, width = weight.shape
        found["weight"] = flat.unflatten(-1, (out, height, width, channels)).movedim(-1, -3)
    else:
        found["weight"] = flat.unflatten(-1, weight.shape)
    return found


def _scale_rows(layer: nn.Module, normed: Tensor, delta: Tensor) -> Formed:
    """Rows of an elementwise weight and bias on normed inputs [B ... D]."""
    weight = cast(Tensor, layer.weight)
    delta_BLTD = delta.reshape(*delta.shape[:2], -1, weight.numel())
    formed = [(delta_BLTD * normed.reshape(len(normed), 1, -1, weight.numel())).sum(2)]
    if layer.bias is not None:
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
    """The inputs [B H W I] of each output position; fast, as channels-last rows stay together."""
    height, width = cast(tuple[int, int], layer.padding)  # no string: see is_known
    padded = F.pad(activation.movedim(1, -1), (0, 0, width, width, height, height))
    patches = padded.unfold(1, layer.kernel_size[0], layer.stride[0])
    patches = patches.unfold(2, layer.kernel_size[1], layer.stride[1])
    return patches.permute(0, 1, 2, 4, 5, 3).flatten(3)


def is_plain(module: nn.Module) -> bool:
    """A linear layer, or a convolution whose input patches ``unfold`` gives.

    Neither makes its weight of other parameters, as ``torch.nn.utils.spectral_norm`` lets it.
    """
    if not module._parameters.keys() <= {"weight", "bias"}:
        return False
    if type(module) is nn.Conv2d:
        by_number = not isinstance(module.padding, str)
        return module.groups == 1 and module.padding_mode == "zeros" and by_number
    return type(module) is nn.Linear
