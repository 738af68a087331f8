"""Find what TRAK linearises: the model output function h, and how far examples are from a fit."""

from typing import NamedTuple

import torch
from torch import Tensor

from bayestda.errors import UserError
from bayestda.gradients.sample import SampleGradients
from bayestda.model.losses import BinaryClassification, Classification, Regression
from bayestda.model.measurements import evaluate
from bayestda.model.measuring import innermost, named_measurements
from bayestda.model.objective import Measurement

_ALONG = 1e-6  # share of the loss's gradient that may lie across that of h: beyond it, no rounding


class OutputFunction(NamedTuple):
    """What features are the gradients of, and the weights of training examples.

    Attributes:
        train: Function h of outputs [B K] and targets, on training examples.
        test: The function on test examples.
        weight_N: Q, how far each training example is from being fitted.
    """

    train: Measurement
    test: Measurement
    weight_N: Tensor


def output_function(
    gradients: SampleGradients,
    given: str | Measurement | None = None,
    loss_slope: Measurement | None = None,
) -> OutputFunction:
    r"""Return the output function of an objective, or the one that is given.

    A given h has :math:`Q = -\partial L/\partial h`. Where the loss is a function of h alone, its
    gradient is a multiple of that of h, so that Q follows from both.

    Args:
        gradients: Gradients of one sample of θ.
        given: The function h or its name; None: that of the objective.
        loss_slope: Function from outputs and targets to :math:`\partial L/\partial h` [B].

    Raises:
        UserError: No output function is known for the objective, or no slope for h.
    """
    objective = innermost(gradients.objective)
    output_NK, y_N = gradients.outputs_NK.double(), gradients.targets_N
    if given is not None:
        h = _named(objective, given) if isinstance(given, str) else given
        slope_N = (
            _slope(objective, h, output_NK, y_N)
            if loss_slope is None
            else loss_slope(output_NK, y_N)
        )
        return OutputFunction(h, h, -slope_N)
    if loss_slope is not None:
        raise UserError("loss_slope= belongs to output_function=: give both")
    for kind in (Classification, BinaryClassification):
        if isinstance(objective, kind) and type(objective).loss is kind.loss:
            margin = named_measurements(objective)["margin"]
            return OutputFunction(margin, margin, torch.sigmoid(-margin(output_NK, y_N)))
    is_squared = isinstance(objective, Regression) and type(objective).loss is Regression.loss
    if is_squared and output_NK.shape[1] == 1:
        residual_N = output_NK[:, 0] - y_N.reshape(-1)
        test = gradients.objective.measure
        return OutputFunction(lambda output_B1, _: output_B1[:, 0], test, residual_N)
    raise UserError(
        f"TRAK has no output function for the loss of {type(objective).__name__} with "
        f"{output_NK.shape[1]} outputs: give output_function=, a function from outputs [B, K] and "
        "targets to [B] that is high where an example is fitted, such as 'margin' for classes or "
        "lambda f, y: ((2 * y - 1) * f).sum(1) for several labels"
    )


def _named(objective: object, name: str) -> Measurement:
    functions = named_measurements(objective)  # type: ignore[arg-type]
    if name not in functions:
        raise UserError(
            f"output_function={name!r} is unknown: choose one of {', '.join(functions)}, or give a "
            "function from outputs [B, K] and targets to [B]"
        )
    return functions[name]


def _slope(objective, h: Measurement, output_NK: Tensor, y_N: Tensor) -> Tensor:
    """Return ∂L/∂h [N] of a loss that is a function of h.

    Raises:
        UserError: It is not, or h has another form.
    """
    loss_NK = _gradient(objective.loss, output_NK, y_N)
    h_NK = _gradient(h, output_NK, y_N)
    square_N = h_NK.square().sum(1)
    slope_N = (loss_NK * h_NK).sum(1) / torch.where(square_N > 0, square_N, 1)
    across_N = (loss_NK - slope_N[:, None] * h_NK).norm(dim=1)
    wrong_N = ~(across_N <= _ALONG * loss_NK.norm(dim=1).max())
    if wrong_N.any():
        raise UserError(
            f"the loss of {int(wrong_N.sum())} of {len(wrong_N)} training examples is not a "
            "function of output_function alone: give loss_slope=, a function from outputs and "
            "targets to the loss's derivative in it [B], or another output_function, such as the "
            "negative loss"
        )
    return slope_N


def _gradient(function: Measurement, output_NK: Tensor, y_N: Tensor) -> Tensor:
    leaf_NK = output_NK.detach().requires_grad_()
    with torch.enable_grad():
        value_N = evaluate(function, leaf_NK, y_N)
    if value_N.shape != output_NK.shape[:1]:
        raise UserError(
            f"output_function has shape {tuple(value_N.shape)} for {len(output_NK)} examples: it "
            "must give one number per example [B]"
        )
    (gradient_NK,) = torch.autograd.grad(value_N.sum(), leaf_NK, materialize_grads=True)
    return gradient_NK
