"""Write layers out in operations that can be differentiated any number of times.

Fused kernels are faster, but some have no second derivative, and that of weight normalisation is
wrong by double backward passes (torch 2.13).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from bayestda.model.precision import differentiated_attention


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Choose the kernels of attention that have second derivatives."""
    with differentiated_attention(), sdpa_kernel(SDPBackend.MATH):
        yield


@contextmanager
def written_out() -> Iterator[None]:
    """Call plain operations within the block, in place of fused kernels.

    Recurrent layers run without cuDNN and oneDNN.
    """
    no_cudnn = torch.backends.cudnn.flags(enabled=False)
    with twice_differentiable(), no_cudnn, _no_onednn(), _Written():
        yield


@contextmanager
def _no_onednn() -> Iterator[None]:
    # Its own context manager also sets TF32, about which it warns (torch 2.13).
    enabled, *_ = torch.backends.mkldnn.set_flags(_enabled=False)
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(_enabled=enabled)


class _Written(TorchFunctionMode):
    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _WRITTEN.get(function, function)(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """G v/‖v‖, with a norm for each place of a dim, or one for all if it is −1."""
    others = tuple(d for d in range(v.ndim) if dim == -1 or d != dim % v.ndim)
    return v * (g / torch.linalg.vector_norm(v, dim=others, keepdim=True))


def _group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_cudnn: bool,
    **_enabled: bool,
) -> Tensor:
    grouped = x.reshape(len(x), num_groups, -1)
    centred = grouped - grouped.mean(-1, keepdim=True)
    scaled = centred * (centred.square().mean(-1, keepdim=True) + eps).rsqrt()
    normed, sides = scaled.reshape(x.shape), (-1, *[1] * (x.ndim - 2))
    normed = normed if weight is None else normed * weight.view(sides)
    return normed if bias is None else normed + bias.view(sides)


def _embedding(x: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    names = ("padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse")
    named = dict(zip(names, args, strict=False)) | kwargs
    return F.embedding(x, weight, **(named | {"sparse": False}))


def _embedding_bag(*args: Any, **kwargs: Any) -> Tensor:
    """Sum, mean or maximum of the rows of each bag; a bag of padding alone is 0."""
    call = signature(F.embedding_bag).bind(*args, **kwargs)
    call.apply_defaults()
    given = call.arguments
    if given["max_norm"] is not None or given["scale_grad_by_freq"]:
        raise NotImplementedError("embedding bags with max_norm or scale_grad_by_freq")
    x, offsets, include_last = (given[n] for n in ("input", "offsets", "include_last_offset"))
    bags, ids = _bags(x, offsets, include_last)
    size = len(x) if offsets is None else len(offsets) - int(include_last)
    rows, padding = given["weight"][ids], given["padding_idx"]
    if given["per_sample_weights"] is not None:
        rows = rows * given["per_sample_weights"].reshape(-1, 1)
    kept = torch.ones_like(ids) if padding is None else (ids != padding).long()
    if given["mode"] == "max":
        return _largest(rows, bags, kept, size)
    total = rows.new_zeros(size, rows.shape[1]).index_add(0, bags, rows * kept[:, None])
    if given["mode"] == "sum":
        return total
    return total / ids.new_zeros(size).index_add(0, bags, kept).clamp(min=1)[:, None]


def _bags(x: Tensor, offsets: Tensor | None, include_last: bool) -> tuple[Tensor, Tensor]:
    """Return the bag of each id, and the ids."""
    if offsets is None:
        return torch.arange(len(x), device=x.device).repeat_interleave(x[0].numel()), x.flatten()
    starts = offsets[:-1] if include_last else offsets
    positions = torch.arange(len(x), device=x.device)
    return torch.searchsorted(starts.contiguous(), positions, right=True) - 1, x


def _largest(rows: Tensor, bags: Tensor, kept: Tensor, size: int) -> Tensor:
    masked = rows.masked_fill(kept[:, None] == 0, -torch.inf)
    into = bags[:, None].expand_as(masked)
    lowest = rows.new_full((size, rows.shape[1]), -torch.inf)
    # The gradient goes to the largest row alone, which has to be found without one.
    top = lowest.scatter_reduce(0, into, masked.detach(), "amax")
    chosen = (masked.detach() == top[bags]) & (kept[:, None] == 1)
    counts = torch.zeros_like(top).index_add(0, bags, chosen.to(rows))
    total = torch.zeros_like(top).index_add(0, bags, torch.where(chosen, rows, 0))
    return total / counts.clamp(min=1)


def _cdist(x1: Tensor, x2: Tensor, p: float = 2.0, *_mode: Any, **_modes: Any) -> Tensor:
    return torch.linalg.vector_norm(x1[..., :, None, :] - x2[..., None, :, :], p, dim=-1)


_WRITTEN: Mapping[Any, Callable[..., Tensor]] = {
    torch._weight_norm: _weight_norm,
    torch.group_norm: _group_norm,
    F.group_norm: _group_norm,
    F.embedding: _embedding,
    F.embedding_bag: _embedding_bag,
    torch.cdist: _cdist,
}
