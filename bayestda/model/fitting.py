"""Look at targets at one place, before anything is trained or scored.

Each objective says what it takes by a method ``fit_targets``, which converts what has one meaning
and refuses all else. An objective of one's own may have one, or leave its targets as they are.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from bayestda.errors import UserError
from bayestda.model.calls import tried_outputs
from bayestda.model.checks import check_objective
from bayestda.model.examples import Data, Examples, Streamed
from bayestda.model.inputs import mapped
from bayestda.model.measuring import measures_targets
from bayestda.model.objective import Objective
from bayestda.model.parameters import first_trained, private_copy


def fitted(
    data: Examples, objective: Objective, network: nn.Module, *, measured: bool = False
) -> Examples:
    """Return examples with targets, and inputs made of targets, as objective and network take them.

    Targets in memory are looked at at once, those of a stream block by block as they are read.

    Args:
        data: The examples.
        objective: The objective; its ``fit_targets`` makes the targets, where it has one.
        network: The network, whose number of outputs decides what a target can be.
        measured: Whether the examples are only measured on. Targets are then left as they are for
            a measurement of one's own, which may take others than the loss, or none.

    Raises:
        UserError: A target has no meaning for the objective, or not one alone.
    """
    check_objective(objective)
    data = _placed(data, lambda x, y, _: (_with_decoder_inputs(network, x, y), y))
    data = _in_type_of(network, objective, data)
    fit = getattr(objective, "fit_targets", None)
    if fit is None or (measured and not measures_targets(objective)):
        return data
    num_outputs = _number_of_outputs(network, objective, data)
    return _placed(data, lambda x, y, index: (x, fit(y, num_outputs, index)))


def _in_type_of(network: nn.Module, objective: Objective, data: Examples) -> Examples:
    """Return examples whose inputs have the type that the network takes; targets keep theirs.

    Of a network with parameters of several types, as a frozen trunk in bfloat16 below a head in
    float32, that is the first with which it can be called, that of θ before others.
    """
    types = [first_trained(network).dtype, *(p.dtype for p in network.parameters())]
    types = list(dict.fromkeys(kind for kind in types if kind.is_floating_point))
    if len(types) == 1:
        return data
    few = data.take(slice(2)).x
    for kind in types:
        with suppress(UserError), torch.no_grad():
            tried_outputs(private_copy(network).eval(), objective, _typed(few, kind))
            return _placed(data, lambda x, y, _, kind=kind: (_typed(x, kind), y))
    return data  # the call that fails says why


def _typed(x: Any, kind: torch.dtype) -> Any:
    """Return inputs whose floating tensors have a type."""
    return mapped(lambda value: value.to(kind) if value.is_floating_point() else value, x)


def _placed(data: Examples, change: Callable[..., tuple[Any, Tensor]]) -> Examples:
    """Return examples changed by a function of inputs, targets and names (None in a stream)."""
    if isinstance(data, Data):
        x, y = change(data.x, data.y, data.index)
        return replace(data, x=x, y=y)
    if isinstance(data, Streamed):
        return replace(data, place=lambda x, y: change(*data.place(x, y), None))
    return data


def _with_decoder_inputs(network: nn.Module, x: Any, y: Tensor) -> Any:
    """Return inputs with those of a decoder, which networks of transformers make of their labels.

    Networks are called without labels here.

    Raises:
        UserError: The network makes them of labels, but only within its call.
    """
    missing = isinstance(x, Mapping) and not {"decoder_input_ids", "decoder_inputs_embeds"} & set(x)
    if not missing or y.ndim != 2 or y.is_floating_point():
        return x
    make = getattr(network, "prepare_decoder_input_ids_from_labels", None)
    if make is not None:
        return {**x, "decoder_input_ids": make(labels=y)}
    if y.shape[1] > 1 and {"labels", "decoder_input_ids"} <= set(
        signature(network.forward).parameters
    ):
        raise UserError(
            f"{type(network).__name__} makes the inputs of its decoder of labels, which it is not "
            "called with: add decoder_input_ids to the batch (labels, one position to the right)"
        )
    return x


def _number_of_outputs(network: nn.Module, objective: Objective, data: Examples) -> int:
    """Return K, from the outputs of two examples."""
    was_training, x = network.training, data.take(slice(2)).x
    try:
        with torch.no_grad():
            return tried_outputs(network.eval(), objective, x).shape[-1]
    finally:
        network.train(was_training)
