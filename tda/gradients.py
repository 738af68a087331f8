"""Per-example gradients of the loss, and Jacobians of the output, by hooks or by ``vmap``.

Hooks see the input a of each layer and the cotangent δ of its output; one backward pass per
cotangent then serves all examples of a batch, and weight gradients are formed only where that is
cheaper (see :mod:`tda.rows`). Parameters of other modules, of layers that are called more than
once, and those that are used outside of their layer go through ``vmap``.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vjp, vmap

from tda.ensemble import blocks, matmul_precision, output
from tda.errors import UserError, out_of_memory
from tda.examples import Data, Examples, rows_of
from tda.objective import Measurement, Objective, output_at
from tda.parameters import Parameters, channels_last_copy
from tda.rows import Factored, Formed, RowBlocks, Rows
from tda.scratch import Scratch

Cotangents = Callable[[Tensor], Tensor]  # output [B K] -> cotangents [L B K]
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_HOOKED = (nn.Linear, nn.Conv2d, nn.LayerNorm, nn.GroupNorm, nn.Embedding, *_BATCH_NORMS)


class SampleGradients:
    """Gradients of one sample of θ on training and test examples, each computed once.

    Args:
        network: the architecture; it is copied.
        objective: gives the loss and the measurement.
        theta_P: the sample.
        train, test: examples [N ...] and [M ...].
        memory_bytes: what gradients may take; changes only the speed.
        scratch: a folder for gradients that do not fit; None: they are captured again when needed.
        own: only an example's score for itself is wanted; ``test`` are the training examples, and
            the objective measures its loss.

    Raises:
        UserError: batch norm has no running statistics.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        theta_P: Tensor,
        *,
        train: Examples,
        test: Examples,
        memory_bytes: float,
        scratch: str | Path | Scratch | None = None,
        own: bool = False,
    ):
        self.own = own
        self.network = channels_last_copy(network).eval()
        self.objective, self.train_data, self.test_data = objective, train, test
        self.theta_P, self.memory_bytes = theta_P, memory_bytes
        self.scratch = scratch if isinstance(scratch, Scratch | None) else Scratch(scratch)
        self.layout = Parameters(network)
        self.kept: dict[str, Any] = {}  # what several methods need, such as a curvature matrix
        self.layout.write(self.network, theta_P)
        _check_examples_are_apart(self.network)
        for module in self.network.modules():
            if hasattr(module, "inplace"):  # hooks see a layer's output; nothing may overwrite it
                module.inplace = False  # type: ignore[assignment]

    @cached_property
    def train(self) -> RowBlocks:
        """∇L(z_j) of the training examples, L = 1."""
        return self._rows(self.train_data, self.objective.loss)

    @cached_property
    def test(self) -> RowBlocks:
        """∇g(z) of the test examples, L = 1; g is the measurement, by default the loss."""
        if self.own:
            return self.train
        return self._rows(self.test_data, self.objective.measure)

    @cached_property
    def jacobian(self) -> RowBlocks:
        """∇f_k(x_j) of the training examples, L = K."""
        return self._blocks(self.train_data, lambda _: output_cotangents)

    @cached_property
    def outputs_NK(self) -> Tensor:
        """f(x_j) of the training examples."""
        return output(self.network, self.objective, self.theta_P[None], self.train_data)[0]

    @cached_property
    def targets_N(self) -> Tensor:
        """y_j of the training examples."""
        if isinstance(self.train_data, Data):
            return self.train_data.y
        return torch.cat([batch.y for batch in blocks(self.train_data, self.train.block)])

    def vectors(self, rows: Rows) -> Tensor:
        """Rows [B L P] in the order of θ."""
        return vectors(self.network, self.layout, rows)

    def _rows(self, data: Examples, value: Measurement) -> RowBlocks:
        return self._blocks(data, lambda batch: value_cotangents(value, batch.y))

    def _blocks(self, data: Examples, cotangents: Callable[[Data], Cotangents]) -> RowBlocks:
        def rows(chosen: slice) -> Rows:
            batch = data.take(chosen)
            return self.captured(batch.x, _finite(cotangents(batch), batch))

        share = self.memory_bytes / 3  # train, test, jacobian
        return RowBlocks(rows, len(data), share, self.scratch)

    def captured(self, x_B: Any, cotangents: Cotangents) -> Rows:
        """Rows of a batch of inputs, as :func:`capture` makes them."""
        return capture(self.network, self.objective, x_B, cotangents, self.simple)

    @cached_property
    def simple(self) -> frozenset[str]:
        """Layers that hooks are enough for."""
        return simple_layers(self.network, self.objective, self.train_data.take(slice(2)).x)


def value_cotangents(value: Measurement, y_B: Tensor) -> Cotangents:
    """A loss's or measurement's gradient in the output, so that rows are per-example gradients."""

    def cotangents(output_BK: Tensor) -> Tensor:
        # In float64: in float32, p − 1 of a confident prediction loses its digits.
        wide_BK = output_BK.detach().double().requires_grad_()
        (gradient_BK,) = torch.autograd.grad(value(wide_BK, y_B).sum(), wide_BK)
        return gradient_BK[None].to(output_BK.dtype)

    return cotangents


def _finite(cotangents: Cotangents, batch: Data) -> Cotangents:
    """The same cotangents, of outputs that are numbers."""

    def checked(output_BK: Tensor) -> Tensor:
        finite_B = output_BK.isfinite().all(1)
        if not finite_B.all():
            raise UserError(
                f"the network's output for example {batch.index[int((~finite_B).nonzero()[0, 0])]} "
                "is not finite: look for NaN or infinite inputs there, and for a diverged network"
            )
        return cotangents(output_BK)

    return checked


def output_cotangents(output_BK: Tensor) -> Tensor:
    """Unit vectors, so that rows are the Jacobian of the output."""
    eye_KK = torch.eye(output_BK.shape[1], dtype=output_BK.dtype, device=output_BK.device)
    return eye_KK[:, None].expand(-1, len(output_BK), -1)


def capture(
    network: nn.Module,
    objective: Objective,
    x_B: Any,
    cotangents: Cotangents,
    simple: frozenset[str] | None = None,
) -> Rows:
    """Per-example vector-Jacobian products of the network's output, by layer.

    Args:
        network: in evaluation mode, with its parameters in place.
        objective: calls it.
        x_B: a batch of inputs.
        cotangents: vectors [L B K] to pull back, given the output.
        simple: what :func:`simple_layers` has found; None: it is asked now.

    Returns:
        For each layer L gradients of each of the B examples.
    """
    names = simple_layers(network, objective, x_B) if simple is None else simple
    layers = {name: own for name, own in _hooked_layers(network).items() if name in names}
    output_BK, calls = _called(network, objective, x_B, layers)
    cotangents_LBK = cotangents(output_BK.detach())
    rows = _layer_rows(layers, calls, output_BK, cotangents_LBK)
    rest = _parameters_outside(network, set(calls))
    if rest:
        rows |= _other_rows(network, objective, rest, x_B, output_BK, cotangents_LBK)
    return rows


@matmul_precision(tf32=False)
def simple_layers(network: nn.Module, objective: Objective, x_B: Any) -> frozenset[str]:
    """Layers by whose hooks an example's gradient is what autograd gives of it alone.

    It is not where a weight is used outside of its layer, too, nor where the first dim of what a
    layer is called with is as long as the examples, but not theirs. As that may happen in a block
    and not in the next, it is looked at once, on two examples, for all blocks.

    Args:
        network, objective: as of :func:`capture`.
        x_B: inputs, of which the first and the last are looked at; they may be the same.

    Returns:
        Names of the layers.
    """
    layers = _hooked_layers(network)
    output_2K, calls = _called(network, objective, rows_of(x_B, [0, -1]), layers)
    if not calls:
        return frozenset()
    probe_2K = torch.linspace(1, 2, output_2K.numel()).to(output_2K).view_as(output_2K)
    rows = _layer_rows(layers, calls, output_2K, probe_2K[None])
    with torch.enable_grad():
        output_1K = objective.output(network, rows_of(x_B, [0]))
    alone = _gradients({name: layers[name] for name in calls}, output_1K, probe_2K[:1])
    gaps = []
    for name, wanted in alone.items():
        found = parts(layers[name], rows[name].take(slice(1)).formed()[0, 0])
        gaps.append(_norm([found[part] - value for part, value in wanted.items()]))
    size_l = torch.stack([_norm(list(wanted.values())) for wanted in alone.values()])
    rounding = 3 * torch.finfo(size_l.dtype).eps ** 0.5  # of a layer, or a little of all of them
    differ_l = torch.stack(gaps) > rounding * (size_l + size_l.norm() / 100)
    return frozenset(n for n, differ in zip(alone, differ_l.tolist(), strict=True) if not differ)


def _gradients(
    layers: dict[str, nn.Module], output_1K: Tensor, cotangent_1K: Tensor
) -> dict[str, dict[str, Tensor]]:
    """Of each layer, by its parameters."""
    own = [
        (name, part, p)
        for name, layer in layers.items()
        for part, p in layer.named_parameters(recurse=False)
    ]
    values = torch.autograd.grad(
        output_1K, [p for *_, p in own], cotangent_1K, allow_unused=True, materialize_grads=True
    )
    found: dict[str, dict[str, Tensor]] = {}
    for (name, part, _), value in zip(own, values, strict=True):
        found.setdefault(name, {})[part] = value
    return found


def _norm(tensors: list[Tensor]) -> Tensor:
    return torch.stack([tensor.norm() for tensor in tensors]).norm()


def _called(
    network: nn.Module, objective: Objective, x_B: Any, layers: dict[str, nn.Module]
) -> tuple[Tensor, dict[str, "_Call"]]:
    """Outputs [B K], and the calls of those layers whose rows follow from a call."""
    calls: dict[str, list[_Call]] = {}
    count = len(next(iter(x_B.values())) if isinstance(x_B, Mapping) else x_B)

    def record(name: str, inputs: tuple, output: Tensor) -> Tensor:
        activation = inputs[0].detach()
        if len(output) == 1 < count:  # shared by all examples, as positions are: one copy each
            output = output.expand(count, *output.shape[1:])
            activation = activation.expand(count, *activation.shape[1:])
        calls.setdefault(name, []).append(_Call(activation, output, output._version))
        return output

    hooks = [
        layer.register_forward_hook(lambda _, inputs, out, name=name: record(name, inputs, out))
        for name, layer in layers.items()
    ]
    try:
        with torch.enable_grad():
            output_BK = objective.output(network, x_B)
    finally:
        for hook in hooks:
            hook.remove()
    once = {
        name: found[0] for name, found in calls.items() if _is_simple(layers[name], found, count)
    }
    return output_BK, once


class _Call(NamedTuple):
    """A layer's input and output in one call, and how often the output had been overwritten."""

    activation: Tensor
    output: Tensor
    version: int


def vectors(network: nn.Module, layout: Parameters, rows: Rows) -> Tensor:
    """Rows [B L P] in the order of θ."""
    named: dict[str, Tensor] = {}
    for name, block in rows.items():
        values_BLp = block.formed()
        if name in layout.shapes:
            named[name] = values_BLp.unflatten(-1, layout.shapes[name] or (1,))
            continue
        layer = network.get_submodule(name)
        prefix = f"{name}." if name else ""
        for part, value in parts(layer, values_BLp).items():
            named[prefix + part] = value
    return layout.join(named)


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


def _hooked_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Trainable layers of known kinds that share no parameter with another module.

    Those with further parameters make their weight of them, as ``torch.nn.utils.spectral_norm``.
    """
    owners = Counter(
        id(p) for _, module in network.named_modules() for p in module.parameters(recurse=False)
    )
    return {
        name: module
        for name, module in network.named_modules()
        if type(module) in _HOOKED
        and module._parameters.keys() <= {"weight", "bias"}
        and any(p.requires_grad for p in module.parameters())
        and all(owners[id(p)] == 1 for p in module.parameters())
    }


def _layer_rows(
    layers: dict[str, nn.Module],
    calls: dict[str, _Call],
    output_BK: Tensor,
    cotangents_LBK: Tensor,
) -> Rows:
    if not calls:
        return {}
    outputs = [call.output for call in calls.values()]
    pulled = [
        torch.autograd.grad(
            output_BK, outputs, cotangent_BK,
            retain_graph=True, allow_unused=True, materialize_grads=True,
        )
        for cotangent_BK in cotangents_LBK
    ]  # fmt: skip
    deltas = [_stack(delta) for delta in zip(*pulled, strict=True)]
    return {
        name: _rows_of(layers[name], call.activation, delta)
        for (name, call), delta in zip(calls.items(), deltas, strict=True)
    }


def _stack(deltas: tuple[Tensor, ...]) -> Tensor:
    """Cotangents [B L ...] of L passes; one alone is not copied."""
    return deltas[0][:, None] if len(deltas) == 1 else torch.stack(deltas, dim=1)


def _rows_of(layer: nn.Module, activation: Tensor, delta: Tensor) -> Factored | Formed:
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
    height, width = cast(tuple[int, int], layer.padding)  # no string: see _is_simple
    padded = F.pad(activation.movedim(1, -1), (0, 0, width, width, height, height))
    patches = padded.unfold(1, layer.kernel_size[0], layer.stride[0])
    patches = patches.unfold(2, layer.kernel_size[1], layer.stride[1])
    return patches.permute(0, 1, 2, 4, 5, 3).flatten(3)


def _is_simple(layer: nn.Module, calls: list[_Call], count: int) -> bool:
    """Whether the layer's rows follow from one input and one output."""
    activation, output, version = calls[0]
    if len(calls) > 1 or output._version != version or not len(activation) == len(output) == count:
        return False
    trainable = {p.requires_grad for p in layer.parameters()}
    plain = True
    if isinstance(layer, nn.Conv2d):
        plain = (
            layer.groups == 1
            and layer.dilation == (1, 1)
            and layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str)
        )
    if isinstance(layer, nn.Embedding):
        plain = layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse
    return plain and trainable == {True}


def _parameters_outside(network: nn.Module, covered: set[str]) -> dict[str, Tensor]:
    return {
        name: p
        for name, p in network.named_parameters()
        if p.requires_grad and name.rpartition(".")[0] not in covered
    }


def _other_rows(
    network: nn.Module,
    objective: Objective,
    named: dict[str, Tensor],
    x_B: Any,
    output_BK: Tensor,
    cotangents_LBK: Tensor,
) -> Rows:
    """Rows of any parameters: ``vmap`` over examples of vector-Jacobian products."""

    def one_example(x: Any, cotangents_LK: Tensor) -> dict[str, Tensor]:
        values = {name: p.detach() for name, p in named.items()}
        pull = vjp(lambda v: output_at(network, objective, v, rows_of(x, None))[0], values)[1]
        return vmap(pull)(cotangents_LK)[0]

    try:
        with torch.no_grad():  # of the parameters that are not differentiated here
            gradients = vmap(one_example)(x_B, cotangents_LBK.transpose(0, 1))
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        warnings.warn(
            f"gradients of {', '.join(named)} are taken one by one, which is slow: vmap does not "
            f"go through this network ({str(error).splitlines()[0]})",
            stacklevel=2,
        )
        gradients = _one_by_one(named, output_BK, cotangents_LBK)
    return {name: Formed(gradient.flatten(2)) for name, gradient in gradients.items()}


def _one_by_one(
    named: dict[str, Tensor], output_BK: Tensor, cotangents_LBK: Tensor
) -> dict[str, Tensor]:
    """Gradients [B L *shape] from the graph of a whole batch."""
    leaves = list(named.values())
    rows = [
        torch.autograd.grad(
            output_BK[b], leaves, cotangent_K,
            retain_graph=True, allow_unused=True, materialize_grads=True,
        )
        for b in range(len(output_BK))
        for cotangent_K in cotangents_LBK[:, b]
    ]  # fmt: skip
    sizes = (len(output_BK), len(cotangents_LBK))
    stacked = [torch.stack(column).unflatten(0, sizes) for column in zip(*rows, strict=True)]
    return dict(zip(named, stacked, strict=True))


def _check_examples_are_apart(network: nn.Module) -> None:
    for name, module in network.named_modules():
        if getattr(module, "track_running_stats", True) is False and "BatchNorm" in str(
            type(module)
        ):
            raise UserError(
                f"batch norm {name!r} has no running statistics, so that the output of one example "
                "depends on the others: use track_running_stats=True, or group norm"
            )
