"""What a network's layers are called with, and per-example gradients of a batch from it.

A :class:`Trace` is the one place that registers hooks. It sees the input a of each call of a layer
and the cotangent δ of its output; one backward pass per cotangent then serves all examples of a
batch. Rows, and the covariances of EK-FAC and LoGra, come from these. Parameters of other modules,
of layers that are called more than once, and those that are used outside of their layer have their
rows by ``vmap``.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import vjp, vmap

from bayestda.errors import out_of_memory
from bayestda.gradients.factored import Formed, Rows
from bayestda.gradients.layers import (
    PLAIN,
    known_layers,
    positions,
    rows_of_layer,
    with_constant,
)
from bayestda.gradients.ways import Ways, by_layer, differing, remaining
from bayestda.model.calls import output_at, outputs
from bayestda.model.inputs import length, rows_of
from bayestda.model.masks import mask_of, real_positions, without_padding
from bayestda.model.objective import Objective
from bayestda.model.precision import differentiated_attention

Cotangents = Callable[[Tensor], Tensor]  # output [B K] -> cotangents [L B K]


class NotStacked(Exception):
    """Report that ``vmap`` does not go through a network."""


class Call(NamedTuple):
    """One call of a layer; the edge is that of its output as the layer gave it, if it has one."""

    activation: Tensor
    shape: torch.Size
    edge: GradientEdge | None


class Trace:
    """A forward pass whose layers' calls are seen.

    Args:
        network: The network in evaluation mode, with its parameters in place.
        objective: The objective, which calls it.
        x_B: A batch of inputs.
        layers: Which layers to see, by name.
        repeat: Whether the output of a layer that is called once for all examples, as on positions,
            is repeated for each of them, so that each has a cotangent. Some networks repeat it
            themselves, and fail.

    Attributes:
        output_BK: The network's outputs.
        calls: The layers' calls, in order.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        x_B: Any,
        layers: Mapping[str, nn.Module],
        *,
        repeat: bool = True,
    ):
        self.repeat = repeat
        self.calls: dict[str, list[Call]] = {}
        self.size = length(x_B)
        hooks = [
            layer.register_forward_hook(
                lambda _, inputs, named, output, name=name: self._see(
                    name, next(iter((*inputs, *named.values()))), output
                ),
                with_kwargs=True,
            )
            for name, layer in layers.items()
        ]
        try:
            with torch.enable_grad():
                self.output_BK = outputs(network, objective, x_B)
        finally:
            for hook in hooks:
                hook.remove()

    def _see(self, name: str, activation: Tensor, output: Tensor) -> Tensor:
        activation = activation.detach()
        if self.repeat and len(output) == 1 < self.size:
            output = output.expand(self.size, *output.shape[1:])
            activation = activation.expand(self.size, *activation.shape[1:])
        edge = get_gradient_edge(output) if output.requires_grad else None
        self.calls.setdefault(name, []).append(Call(activation, output.shape, edge))
        return output

    def once(self) -> dict[str, Call]:
        """Return the calls of layers that were called once, on a row per example."""
        return {
            name: call
            for name, (call, *more) in self.calls.items()
            if not more and len(call.activation) == call.shape[0] == self.size
        }

    @property
    def epsilon(self) -> float:
        """The coarsest rounding of what was seen, such as bfloat16's under autocast."""
        seen = [call.activation for calls in self.calls.values() for call in calls]
        types = {tensor.dtype for tensor in (*seen, self.output_BK) if tensor.is_floating_point()}
        # Networks in float64 have parts in float32, as the norms of most language models.
        return max(torch.finfo(dtype).eps for dtype in (*types, torch.float32))

    def deltas(self, calls: Iterable[Call], cotangents_LBK: Tensor) -> Iterator[Tensor]:
        """Yield cotangents [B L ...] of the calls' outputs, given those of the network's."""
        calls = list(calls)
        edges = [call.edge for call in calls if call.edge is not None]
        pulled = [
            torch.autograd.grad(
                self.output_BK, edges, cotangent_BK, retain_graph=True, allow_unused=True
            )
            for cotangent_BK in (cotangents_LBK if edges else ())
        ]  # fmt: skip
        by_edge = iter(zip(*pulled, strict=True))
        for call in calls:
            pieces = next(by_edge) if call.edge is not None else ()
            if not pieces or pieces[0] is None:  # no output depends on this call
                sizes = call.shape[:1] + cotangents_LBK.shape[:1] + call.shape[1:]
                yield cotangents_LBK.new_zeros(sizes)
            else:  # a single one is not copied
                yield pieces[0][:, None] if len(pieces) == 1 else torch.stack(pieces, dim=1)


@differentiated_attention()
def capture(
    network: nn.Module,
    objective: Objective,
    x_B: Any,
    cotangents: Cotangents,
    ways: Ways,
    *,
    look: bool = False,
) -> Rows:
    """Return per-example vector-Jacobian products of the network's output, by layer.

    Args:
        network: The network in evaluation mode, with its parameters in place.
        objective: The objective, which calls it.
        x_B: A batch of inputs.
        cotangents: Vectors [L B K] to pull back, as a function of the output.
        ways: How rows are made.
        look: Whether to compare all rows with one backward pass. Those that differ are made one by
            one, here and, by a note in ``ways``, from here on.

    Returns:
        For each layer L gradients of each of the B examples.
    """
    layers = ways.hooked(network)
    trace = Trace(network, objective, x_B, layers)
    cotangents_LBK = cotangents(trace.output_BK.detach())
    rows = layer_rows(trace, layers, cotangents_LBK)
    rest = remaining(network, rows)
    single = {name: rest.pop(name) for name in list(rest) if name in ways.single}
    if rest:
        try:
            rows |= other_rows(network, objective, rest, x_B, cotangents_LBK)
        except NotStacked as error:
            warn_of_single_passes(rest, str(error))
            single |= rest
    if look:
        wrong = differing(network, rows, trace.output_BK, cotangents_LBK, trace.epsilon)
        single |= {n: network.get_parameter(n) for n in wrong}
        ways.single |= wrong
    if single:
        rows |= one_by_one(network, objective, single, x_B, cotangents_LBK)
    return by_layer(network, rows, ways.simple)


@differentiated_attention()
def factors(
    network: nn.Module,
    objective: Objective,
    x_B: Any,
    cotangents: Cotangents,
    layers: Mapping[str, nn.Module],
) -> list[tuple[str, Tensor, Tensor]]:
    """Return inputs [B T I] and output cotangents [B L T O] of each call of plain layers.

    Padded positions have inputs of 0 (:mod:`bayestda.model.masks`), so that they have no part in
    sums over positions. Under autocast, both have the type of the layer's parameters.

    Args:
        network, objective, x_B, cotangents: As of :func:`capture`.
        layers: Plain layers by name; I counts the inputs of their trained parameters.
    """
    trace = Trace(network, objective, x_B, layers)
    pairs = [(name, call) for name, calls in trace.calls.items() for call in calls]
    cotangents_LBK = cotangents(trace.output_BK.detach())
    deltas = trace.deltas([call for _, call in pairs], cotangents_LBK)
    masks = real_positions(network, x_B)
    found = []
    for (name, call), delta in zip(pairs, deltas, strict=True):
        layer = layers[name]
        kind = next(p.dtype for p in layer.parameters(recurse=False) if p.requires_grad)
        a_BTI, delta_BLTO = positions(layer, call.activation.to(kind), delta.to(kind))
        # A layer's positions are those of a mask only if it is called on [B T I].
        own = call.activation.ndim == 3 and call.activation.shape[0] == trace.size
        mask_BT = mask_of(masks, name, a_BTI.shape[1]) if own else None
        a_BTI = without_padding(with_constant(layer, a_BTI), delta_BLTO, mask_BT)
        found.append((name, a_BTI, delta_BLTO))
    return found


def plain_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return linear layers and convolutions with trained parameters that no other module has."""
    layers = known_layers(network)
    return {name: layer for name, layer in layers.items() if isinstance(layer, PLAIN)}


def layer_rows(trace: Trace, layers: Mapping[str, nn.Module], cotangents_LBK: Tensor) -> Rows:
    """Return the rows of layers that were called once, on a row per example."""
    calls = trace.once()
    deltas = trace.deltas(calls.values(), cotangents_LBK)
    return {
        name: rows_of_layer(layers[name], call.activation, delta)
        for (name, call), delta in zip(calls.items(), deltas, strict=True)
    }


def other_rows(
    network: nn.Module,
    objective: Objective,
    named: Mapping[str, Tensor],
    x_B: Any,
    cotangents_LBK: Tensor,
) -> Rows:
    """Return rows of any parameters by ``vmap`` over examples of vector-Jacobian products.

    Raises:
        NotStacked: ``vmap`` does not go through the network.
    """

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
        raise NotStacked(str(error).splitlines()[0]) from error
    return {name: Formed(gradient.flatten(2)) for name, gradient in gradients.items()}


def one_by_one(
    network: nn.Module,
    objective: Objective,
    named: Mapping[str, Tensor],
    x_B: Any,
    cotangents_LBK: Tensor,
) -> Rows:
    """Return rows of any parameters by a forward pass and backward passes for each example.

    The backward pass of one example through the graph of a batch would cost as much as the batch's.

    Args:
        network, objective, x_B: As of :func:`capture`.
        named: The parameters, by name.
        cotangents_LBK: Vectors to pull back.
    """
    leaves, rows = list(named.values()), []
    for b in range(cotangents_LBK.shape[1]):
        with torch.enable_grad():
            output_1K = outputs(network, objective, rows_of(x_B, [b]))
        last = len(cotangents_LBK) - 1
        rows += [
            torch.autograd.grad(
                output_1K, leaves, cotangent_BK[b : b + 1],
                retain_graph=place < last, allow_unused=True, materialize_grads=True,
            )
            for place, cotangent_BK in enumerate(cotangents_LBK)
        ]  # fmt: skip
    sizes = (cotangents_LBK.shape[1], len(cotangents_LBK))
    return {
        name: Formed(torch.stack(column).flatten(1).unflatten(0, sizes))
        for name, column in zip(named, zip(*rows, strict=True), strict=True)
    }


def warn_of_single_passes(names: Iterable[str], reason: str) -> None:
    """Say that gradients are taken one by one, and what is faster."""
    some = list(names)
    listed = ", ".join(some[:2]) + (f" and {len(some) - 2} more" if len(some) > 2 else "")
    warnings.warn(
        f"gradients of {listed} are taken one by one, as vmap does not go through this network "
        f"({reason}); of transformers, attn_implementation='eager' is faster",
        stacklevel=3,
    )
