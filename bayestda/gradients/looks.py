"""Look at a network, once, before its rows are taken: which ways of making them are right.

A few examples are compared with autograd on each of them alone. Blocks of rows are looked at again
by :func:`bayestda.gradients.ways.differing`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from bayestda.errors import out_of_memory
from bayestda.gradients.factored import Rows
from bayestda.gradients.hooks import (
    NotStacked,
    Trace,
    layer_rows,
    other_rows,
    warn_of_single_passes,
)
from bayestda.gradients.layers import known_layers
from bayestda.gradients.ways import Ways, own_names, remaining, unlike
from bayestda.model.calls import outputs
from bayestda.model.inputs import rows_of
from bayestda.model.looks import check_alone, is_alone
from bayestda.model.objective import Objective
from bayestda.model.precision import matmul_precision


@matmul_precision(tf32=False)
def ways_of(network: nn.Module, objective: Objective, x_N: Any) -> Ways:
    """Return how rows are made: by hooks or by ``vmap`` where that gives what autograd gives.

    Hooks get rows wrong if a weight is also used outside of its layer, if a network sorts its
    batch, or if a layer's leading dim has the examples' length by coincidence, as sequences of
    length B with positions first. ``vmap`` does where PyTorch's rule for a function is wrong.

    Args:
        network, objective: As of :func:`bayestda.gradients.hooks.capture`.
        x_N: Inputs of some examples, of which the first and the last are looked at.

    Raises:
        UserError: The output of an example depends on the others in its batch.
    """
    # Whoever sorts these moves one of them. A single example stands beside itself.
    order = torch.tensor([0, -1, 0])
    with torch.enable_grad():
        alone = {i: outputs(network, objective, rows_of(x_N, [i])) for i in (0, -1)}
    x_B, layers = rows_of(x_N, order.tolist()), known_layers(network)
    trace = _trace(network, objective, x_B, alone, order)
    # Unequal numbers without zeros: neither symmetry nor a zero hides a difference.
    probe_BK = torch.linspace(1, 2, trace.output_BK.numel()).view_as(trace.output_BK)
    weight_B = torch.linspace(1, 2, len(order)) ** 2
    probe_BK, weight_B = probe_BK.to(trace.output_BK), weight_B.to(trace.output_BK)
    expected = _summed(network, alone, order, probe_BK * weight_B[:, None])

    def wrong(rows: Rows) -> set[str]:
        sums = {name: block.weighted(weight_B[:, None]) for name, block in rows.items()}
        return unlike(network, sums, expected, trace.epsilon)

    rows = layer_rows(trace, layers, probe_BK[None])
    not_simple = wrong(rows)
    simple = [name for name in rows if not own_names(name, layers[name]) & not_simple]
    ways = Ways(frozenset(simple))
    rest = remaining(network, ways.simple)
    if rest:
        try:
            ways.single = wrong(other_rows(network, objective, rest, x_B, probe_BK[None]))
        except NotStacked as error:
            warn_of_single_passes(rest, str(error))
            ways.single = set(rest)
    return ways


def _trace(
    network: nn.Module,
    objective: Objective,
    x_B: Any,
    alone: dict[int, Tensor],
    order: Tensor,
) -> Trace:
    """Return a trace whose outputs are those of the examples alone.

    Raises:
        UserError: Outputs depend on the batch.
    """
    layers = known_layers(network)
    try:
        trace = Trace(network, objective, x_B, layers)
    except Exception as error:  # whatever a network raises that repeats the output itself
        if out_of_memory(error):
            raise
    else:
        if is_alone(alone, trace.output_BK, order, trace.epsilon):
            return trace
    trace = Trace(network, objective, x_B, layers, repeat=False)
    check_alone(alone, trace.output_BK, order, trace.epsilon)
    return trace


def _summed(
    network: nn.Module, alone: dict[int, Tensor], order: Tensor, cotangents_BK: Tensor
) -> dict[str, Tensor]:
    """Sum gradients of examples alone over the rows of a batch, by name of the parameter."""
    named = {n: p for n, p in network.named_parameters() if p.requires_grad}
    total = [torch.zeros_like(p) for p in named.values()]
    for example, output_1K in alone.items():
        cotangent_1K = cotangents_BK[order.to(cotangents_BK.device) == example].sum(0, keepdim=True)
        gradients = torch.autograd.grad(
            output_1K, list(named.values()), cotangent_1K, allow_unused=True, materialize_grads=True
        )
        total = [old + new for old, new in zip(total, gradients, strict=True)]
    return dict(zip(named, total, strict=True))
