"""Measure outputs on test examples: what scores can explain, other than the loss."""

import torch
import torch.nn.functional as F
from torch import Tensor

from bayestda.errors import UserError, out_of_memory
from bayestda.model.objective import Measurement


def margin(output_BK: Tensor, y_B: Tensor) -> Tensor:
    """Return the log-odds of the right class [B], log p_y/(1 − p_y): high is good.

    Source: Park et al. 2023, equation 4.
    """
    class_B1 = _right_class(y_B)
    right_B1 = output_BK.gather(1, class_B1)
    others_BK = output_BK.scatter(1, class_B1, -torch.inf)
    return torch.where(y_B < 0, 0, right_B1[:, 0] - others_BK.logsumexp(1))


def _right_class(y_B: Tensor) -> Tensor:
    """Class numbers [B 1]; examples without a class count as 0, and their values are left out."""
    if y_B.is_floating_point() or y_B.ndim != 1:
        raise UserError(
            f"this measurement needs the right class of every example, int64 [B], and targets are "
            f"{_name(y_B)} {list(y_B.shape)}: measure the loss, or give class numbers, such as "
            "y.argmax(1)"
        )
    return y_B.clamp(min=0)[:, None]


def binary_margin(output_B1: Tensor, y_B: Tensor) -> Tensor:
    """Return the log-odds of the right one of two classes [B]: f, the logit of class 1, or −f."""
    return (2 * y_B.reshape(-1).to(output_B1.dtype) - 1) * output_B1[:, 0]


def confident_loss(output_BK: Tensor, y_B: Tensor) -> Tensor:
    """Return the cross-entropy [B] as log(1 + e^−margin), as precise as the margin.

    The usual difference of logarithms loses all digits of a small loss: in float64 it gives 0 for
    losses below 1e-16.
    """
    # Above its threshold softplus(x) is x; the default of 20 would be seen in float64.
    return torch.where(y_B < 0, 0, F.softplus(-margin(output_BK, y_B), threshold=40.0))


def log_probability(output_BK: Tensor, y_B: Tensor) -> Tensor:
    """Return log p_y of the right class [B]: minus the cross-entropy."""
    right_B1 = output_BK.log_softmax(-1).gather(1, _right_class(y_B))
    return torch.where(y_B < 0, 0, right_B1[:, 0])


def probability(output_BK: Tensor, y_B: Tensor) -> Tensor:
    """Return p_y of the right class [B]."""
    return log_probability(output_BK, y_B).exp()


def single_output(output_BK: Tensor, _y_B: Tensor) -> Tensor:
    """Return the output [B] of a network with one output.

    Raises:
        UserError: The network has more than one output.
    """
    if output_BK.shape[-1] != 1:
        raise UserError(
            f"measurement='output' needs a network with one output, not {output_BK.shape[-1]}: "
            "give a function that chooses one, such as lambda output, y: output[:, 0]"
        )
    return output_BK[..., 0]


MEASUREMENTS: dict[str, Measurement] = {
    "margin": margin,
    "log_probability": log_probability,
    "probability": probability,
    "output": single_output,
}
# The same for the single logit f of a binary classifier, where p_1 = σ(f).
OF_ONE_LOGIT: dict[str, Measurement] = {
    "margin": binary_margin,
    "log_probability": lambda output_B1, y_B: F.logsigmoid(binary_margin(output_B1, y_B)),
    "probability": lambda output_B1, y_B: binary_margin(output_B1, y_B).sigmoid(),
}
# Measurements of the right class, which take targets as the loss does.
OF_CLASSES = (margin, confident_loss, log_probability, probability, *OF_ONE_LOGIT.values())


def evaluate(function: Measurement, output_BK: Tensor, y_B: Tensor) -> Tensor:
    """Call a user's loss or measurement, with floating targets in the outputs' dtype.

    Raises:
        UserError: The function does not take these outputs or targets.
    """
    target_B = y_B.to(output_BK.dtype) if y_B.is_floating_point() else y_B
    try:
        return function(output_BK, target_B)
    except (RuntimeError, IndexError, ValueError) as error:
        mend = None if isinstance(error, UserError) else _mend(str(error), target_B)
        if mend is None:
            raise
        raise UserError(
            f"a loss or measurement does not take outputs f in {_name(output_BK)} "
            f"(f {list(output_BK.shape)}, y {_name(y_B)} {list(y_B.shape)}; "
            f"{str(error).splitlines()[0]}): {mend}"
        ) from error


def _mend(error: str, y_B: Tensor) -> str | None:
    """Say what mends an error of a user's function; None: it is not about outputs or targets."""
    if "vmap" in error or "functorch" in error or out_of_memory(RuntimeError(error)):
        return None
    if "out of bounds" in error:
        return "count classes from 0, and give the network an output for each"
    if any(words in error for words in ("dtype", "scalar type", "can't be cast")):
        if "target" in error and y_B.dtype != torch.int64:
            return "give class numbers as y.long()"
        if not y_B.is_floating_point():
            return "convert its own tensors with w.to(f), or take the targets as y.to(f)"
        return "convert its own tensors with w.to(f)"
    if any(words in error for words in ("size", "shape", "target")):
        return "give targets of the shape that the function takes, such as class numbers [B]"
    return None


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
