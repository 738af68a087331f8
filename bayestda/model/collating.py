"""Make batches of what data sets hold: items of tensors, arrays, numbers, lists of numbers, text.

Text and None are left out of mappings, as no network takes them. What cannot be made a tensor, or
has no rows of single examples, is refused in a sentence that says what to give.
"""

from collections.abc import Callable, Mapping, Sequence
from numbers import Number
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from bayestda.errors import UserError
from bayestda.model.inputs import named_leaves

# Keys of the targets in batches that are mappings.
LABELS = ("labels", "label", "label_ids", "y", "target", "targets")
PAD = (
    "give a DataLoader whose collate_fn pads them to one size (transformers: "
    "DataCollatorWithPadding), with a mask where the network needs one"
)


def stacking(collate: Callable[[list], Any] | None) -> Callable[[list], Any]:
    """Return a function that makes a batch of items: the user's own, or one that stacks them.

    Args:
        collate: The collate function of a loader; None or PyTorch's default: items are stacked,
            lists of numbers as arrays.
    """
    return _stacked if collate in (None, default_collate) else collate


def _stacked(items: list) -> Any:
    """Stack items as ``default_collate``, which takes lists of numbers apart and refuses None.

    Raises:
        UserError: Items have different sizes, or hold something else.
    """
    try:
        return default_collate([_cleaned(item) for item in items])
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"examples cannot be stacked to a batch ({str(error).splitlines()[0]}): if they have "
            f"different sizes, {PAD}"
        ) from error


def _cleaned(item: Any) -> Any:
    """Return an item without text and None in mappings, its lists of numbers as tensors."""
    if isinstance(item, Mapping):
        return {name: _cleaned(value) for name, value in item.items() if not _is_text(value)}
    if _is_numbers(item):
        return torch.as_tensor(np.asarray(item))
    if isinstance(item, tuple) and not hasattr(item, "_fields"):
        return tuple(_cleaned(value) for value in item)
    return item


def inputs_and_targets(batch: Any) -> tuple[Any, Any]:
    """Part a batch into inputs and targets.

    Raises:
        UserError: It has no targets, or several.
    """
    if isinstance(batch, Mapping):
        key = next((key for key in LABELS if key in batch), None)
        if key is None:
            raise UserError(
                f"a batch with the keys {sorted(batch)} has no targets: name them 'labels'"
            )
        x: Any = {name: value for name, value in batch.items() if name != key}
        y = batch[key]
    elif isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch) == 2:
        x, y = batch
    else:
        raise UserError("a batch must be (inputs, targets), or a mapping with the key 'labels'")
    return x, _one_target(y)


def _one_target(y: Any) -> Any:
    if y is None:
        raise UserError(
            "the targets are None: give a tensor [N] all the same, such as torch.zeros(N), where "
            "the objective needs none"
        )
    if not isinstance(y, Mapping):
        return y
    kept = {name: value for name, value in y.items() if not _is_text(value)}
    if len(kept) != 1:
        raise UserError(
            f"the targets are a mapping of {sorted(y)}: give one tensor [N, ...], or write an "
            "Objective and put what its loss needs side by side into one tensor"
        )
    return next(iter(kept.values()))


def tensors_of(x: Any, name: str) -> Any:
    """Return the same form with each array as a tensor; text and None in mappings are left out.

    A list of as many arrays as there are examples, all of one shape, is stacked.

    Raises:
        UserError: A part is no array, or a list of arrays of different shapes.
    """
    if isinstance(x, Mapping) and not hasattr(x, "to_numpy"):
        kept = {key: value for key, value in x.items() if not _is_text(value)}
        return {key: tensors_of(value, f"{name}[{key!r}]") for key, value in kept.items()}
    if _is_numbers(x):
        return torch.as_tensor(np.asarray(x))
    if isinstance(x, list | tuple):
        parts = [tensors_of(value, f"{name}[{place}]") for place, value in enumerate(x)]
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    return _tensor(x, name)


def _tensor(value: Any, name: str) -> Tensor:
    if hasattr(value, "to_numpy"):  # pandas, polars
        value = np.array(value)  # a copy, as theirs may be read-only
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        what = "ragged lists" if isinstance(value, list | tuple) else f"a {type(value).__name__}"
        mend = PAD if isinstance(value, list | tuple) else "leave it out, or give it as numbers"
        raise UserError(f"{name}: {what} cannot be made a tensor: {mend}") from error


def check_lengths(x: Any, y: Tensor, count: int | None = None) -> None:
    """Refuse inputs and targets whose first dims do not count the same examples.

    Args:
        x, y: Inputs and targets, as tensors.
        count: Number of items that they were made of; None: they are given as a whole.

    Raises:
        UserError: As said above, or there are none.
    """
    sizes = dict([*named_leaves(x), ("targets", y)])
    without = [name for name, value in sizes.items() if not value.ndim]
    if without:
        raise UserError(f"{without[0]} is one number and has no dim of examples [N, ...]")
    lengths = {name: len(value) for name, value in sizes.items()}
    if count is not None and set(lengths.values()) != {count}:
        raise UserError(
            f"a batch of {count} examples has {_listed(lengths)} rows, so that the rows of one "
            f"example cannot be told from another's: {PAD}"
        )
    if len(set(lengths.values())) != 1:
        raise UserError(
            f"inputs and targets have different lengths: {_listed(lengths)}; where a list holds "
            "one array per example, torch.stack it"
        )
    if not len(y):
        raise UserError("there are no examples: inputs and targets are empty")


def _listed(lengths: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in lengths.items())


def _is_text(value: Any) -> bool:
    """Whether a field is text or None, or a list of them, as a collate function leaves them."""
    if isinstance(value, list | tuple) and value:
        return all(_is_text(part) for part in value)
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "USO" and all(_is_text(part) for part in value.ravel()[:1])
    return value is None or isinstance(value, str | bytes)


def _is_numbers(value: Any) -> bool:
    """Whether a list holds numbers, or equally long lists of them."""
    if not isinstance(value, list | tuple) or not value or hasattr(value, "_fields"):
        return False
    if isinstance(value[0], Number):
        return all(isinstance(part, Number) for part in value)
    same = isinstance(value[0], list) and len({len(p) for p in value if isinstance(p, list)}) == 1
    return same and all(_is_numbers(part) for part in value)
