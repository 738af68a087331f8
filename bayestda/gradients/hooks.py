"""Per-example gradients of a batch, by hooks or by ``vmap``.

Hooks see the input a of each layer and the cotangent δ of its output; one backward pass per
cotangent then serves all examples of a batch. Parameters of other modules, of layers that are
called more than once, and those that are used outside of their layer go through ``vmap``.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap

from bayestda.errors import out_of_memory
from bayestda.gradients.factored import Formed, Rows
from bayestda.gradients.layers import is_known, parts, rows_of_layer
from bayestda.model.examples import rows_of
from bayestda.model.objective import Objective, output_at
from bayestda.model.parameters import sole_owners
from bayestda.model.precision import matmul_precision

Cotangents = Callable[[Tensor], Tensor]  # output [B K] -> cotangents [L B K]


def capture(
    network: nn.Module,
    objective: Objective,
    x_B: Any,
    cotangents: Cotangents,
    simple: frozenset[str],
) -> Rows:
    """Per-example vector-Jacobian products of the network's output, by layer.

    Args:
        network: in evaluation mode, with its parameters in place.
        objective: calls it.
        x_B: a batch of inputs.
        cotangents: vectors [L B K] to pull back, given the output.
        simple: what :func:`simple_layers` has found.

    Returns:
        For each layer L gradients of each of the B examples.
    """
    layers = {name: own for name, own in _hooked_layers(network).items() if name in simple}
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
    once = {name: found[0] for name, found in calls.items() if _is_simple(found, count)}
    return output_BK, once


class _Call(NamedTuple):
    """A layer's input and output in one call, and how often the output had been overwritten."""

    activation: Tensor
    output: Tensor
    version: int


def _hooked_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Layers of known kinds that are trained as a whole and share no parameter with another one."""
    return {
        name: module
        for name, module in sole_owners(network).items()
        if is_known(module) and all(p.requires_grad for p in module.parameters())
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
        name: rows_of_layer(layers[name], call.activation, delta)
        for (name, call), delta in zip(calls.items(), deltas, strict=True)
    }


def _stack(deltas: tuple[Tensor, ...]) -> Tensor:
    """Cotangents [B L ...] of L passes; one alone is not copied."""
    return deltas[0][:, None] if len(deltas) == 1 else torch.stack(deltas, dim=1)


def _is_simple(calls: list[_Call], count: int) -> bool:
    """Whether a layer's rows follow from one input and one output."""
    activation, output, version = calls[0]
    is_whole = output._version == version  # not overwritten since
    return len(calls) == 1 and is_whole and len(activation) == len(output) == count


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
