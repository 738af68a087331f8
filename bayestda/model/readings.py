"""Read examples twice: what is scored must be the same at every reading."""

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayestda.errors import UserError
from bayestda.model.examples import Examples, Streamed
from bayestda.model.inputs import leaves

FEW = 5  # examples that are looked at, spread over a data set
MANY = 64  # examples that are read twice if random numbers are drawn meanwhile


def spread(count: int, few: int) -> Tensor:
    """Return at most ``few`` positions, spread over all: the first and the last are among them."""
    return torch.linspace(0, count - 1, min(few, count)).round().long()


def check_steady(data: Examples, name: str) -> None:
    """Refuse examples that are others when they are read again.

    Args:
        data: The examples.
        name: Their name, for the message.
    """
    if not isinstance(data, Streamed):
        return
    before = _all_states()
    _compare_readings(data, spread(len(data), FEW), name)
    if _all_states() != before:  # a flip of images, for one, is seen in half of the readings
        _compare_readings(data, spread(len(data), MANY), name)


def _compare_readings(data: Examples, chosen: Tensor, name: str) -> None:
    first, second = data.take(chosen), data.take(chosen)
    pairs = zip(leaves((first.x, first.y)), leaves((second.x, second.y)), strict=True)
    if not all(_equal(one, two) for one, two in pairs):
        raise UserError(
            f"the {name} data are not the same when they are read twice: something is drawn at "
            "random, as by augmentations or a masking collator; give a data set that is fixed, "
            "such as TensorDataset of one draw (only training may draw anew)"
        )


def _equal(one: Tensor, two: Tensor) -> bool:
    same = one.shape == two.shape and one.dtype == two.dtype
    return same and bool(((one == two) | (one.isnan() & two.isnan())).all())


def _all_states() -> tuple[Any, ...]:
    """States of the generators that a data set may draw from."""
    torch_state = torch.get_rng_state().numpy().tobytes()
    of_numpy = np.random.get_state(legacy=True)  # noqa: NPY002 - data sets draw from it
    return torch_state, [str(part) for part in of_numpy], random.getstate()
