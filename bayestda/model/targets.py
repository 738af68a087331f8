"""Convert targets that have one meaning for a loss, and refuse all others."""

import numpy as np
import torch
from torch import Tensor

from bayestda.errors import UserError

IGNORED = -100  # the class of an example that has no loss, as in torch's cross-entropy
SUM = 1e-4  # how far the probabilities of an example may be from a sum of 1


def classes(y: Tensor, num_outputs: int, index: np.ndarray | None = None) -> Tensor:
    """Return class numbers, int64 [N], or probabilities of the classes [N K].

    Args:
        y: Class numbers [N] or [N, 1] of any type, 1 for the class and 0 for others [N K], or
            probabilities [N K]. An example of class -100 has no loss.
        num_outputs: Number K of classes.
        index: Names of the examples; None: they are not known.

    Raises:
        UserError: They are none of these.
    """
    if num_outputs == 1:
        raise UserError(
            "Classification needs one output per class, and the network has 1: use "
            "BinaryClassification for the logit of class 1, or Regression for a number"
        )
    _refuse_strange(y, "Classification", index)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2 and y.shape[1] == num_outputs:
        return _probabilities(y, index)
    if y.ndim != 1:
        raise UserError(
            f"targets {tuple(y.shape)} do not fit {num_outputs} outputs: Classification takes one "
            "class per example [N], or probabilities [N, K]; for a class at every position of a "
            "sequence or image use FromLoss, or write an Objective"
        )
    number_N = y.long()
    _refuse(
        number_N != y, y, index,
        "Classification takes whole class numbers: use Regression for numbers, or give "
        "probabilities [N, K]",
    )  # fmt: skip
    outside_N = ((number_N < 0) | (number_N >= num_outputs)) & (number_N != IGNORED)
    _refuse(outside_N, number_N, index, _counting(number_N, num_outputs))
    return number_N


def _counting(number_N: Tensor, num_outputs: int) -> str:
    """Say what to do about classes that do not exist."""
    kept_N = number_N[number_N != IGNORED]
    if len(kept_N) and int(kept_N.min()) == 1 and int(kept_N.max()) == num_outputs:
        return f"classes are counted from 0 to {num_outputs - 1}, not from 1: give y - 1"
    return (
        f"{num_outputs} outputs have the classes 0 to {num_outputs - 1}: count classes from 0, "
        f"give the network an output for each, or mark examples without a target by {IGNORED}"
    )


def _probabilities(y_NK: Tensor, index: np.ndarray | None) -> Tensor:
    is_hot_N = ((y_NK == 1).sum(1) == 1) & ((y_NK != 0).sum(1) == 1)
    # Of a stream, floats stay what they are: another block may hold what is not 0 or 1.
    if is_hot_N.all() and (index is not None or not y_NK.is_floating_point()):
        return y_NK.int().argmax(1)
    wrong_N = (y_NK < 0).any(1) | ((y_NK.double().sum(1) - 1).abs() > SUM)
    _refuse(
        wrong_N, y_NK, index,
        "probabilities of the classes add up to 1; for several labels of one example use "
        "FromLoss(lambda f, y: F.binary_cross_entropy_with_logits(f, y, "
        "reduction='none').mean(1)) with float targets",
    )  # fmt: skip
    return y_NK


def zero_or_one(y: Tensor, num_outputs: int, index: np.ndarray | None = None) -> Tensor:
    """Return targets of one logit as they are, after a look.

    Args:
        y: Targets between 0 and 1, [N] or [N, 1].
        num_outputs: Number of the network's outputs.
        index: Names of the examples; None: they are not known.

    Raises:
        UserError: They have another form or other values, or there is more than one output.
    """
    if num_outputs != 1:
        raise UserError(
            "BinaryClassification needs a network with one output, the logit of class 1, not "
            f"{num_outputs}: use Classification, or FromLoss"
        )
    if y.ndim != 1 and tuple(y.shape[1:]) != (1,):
        raise UserError(
            f"targets {tuple(y.shape)} do not fit outputs [N, 1] of BinaryClassification: give one "
            "per example, [N] or [N, 1]"
        )
    _refuse_strange(y, "BinaryClassification", index)
    _refuse((y < 0) | (y > 1), y, index, _mend_of_binary(y))
    return y


def _mend_of_binary(y: Tensor) -> str:
    if (y.abs() == 1).all():
        return "BinaryClassification takes 0 and 1, not -1 and 1: give (y + 1) / 2"
    if ((y == 1) | (y == 2)).all():
        return "BinaryClassification takes 0 and 1, not 1 and 2: give y - 1"
    return (
        "BinaryClassification takes 0 and 1: use Classification for classes, Regression for "
        "numbers, and leave out examples without a target"
    )


def numbers(y: Tensor, num_outputs: int, index: np.ndarray | None = None) -> Tensor:
    """Return targets of a regression, after a look.

    Args:
        y: Numbers [N K]; those of a single output may lack its dim.
        num_outputs: Number K of the network's outputs.
        index: Names of the examples; None: they are not known.

    Raises:
        UserError: They have another form, or are not finite.
    """
    fits = y.ndim == 2 and y.shape[1] == num_outputs
    if not fits and (y.ndim, num_outputs) != (1, 1):
        given = "[N] or [N, 1]" if num_outputs == 1 else f"[N, {num_outputs}]"
        raise UserError(
            f"targets {tuple(y.shape)} do not fit {num_outputs} "
            f"{'output' if num_outputs == 1 else 'outputs'} of Regression: give targets {given}"
        )
    _refuse_strange(y, "Regression", index)
    return y.long() if y.dtype == torch.bool else y


def _refuse_strange(y: Tensor, name: str, index: np.ndarray | None) -> None:
    if y.is_complex():
        raise UserError(f"targets are complex, which {name} does not take: give real numbers")
    if y.is_floating_point():
        mend = "leave such examples out, or use FromLoss with a loss that says what it means"
        _refuse(~y.isfinite(), y, index, mend)


def _refuse(wrong: Tensor, y: Tensor, index: np.ndarray | None, mend: str) -> None:
    """Refuse targets of which some are wrong, by the first of these examples."""
    if not wrong.any():
        return
    row = int(wrong.nonzero()[0, 0])
    name = "an example" if index is None else f"example {index[row]}"
    raise UserError(f"the target of {name} is {y[row].tolist()}: {mend}")
