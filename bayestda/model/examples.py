"""Examples as methods take them: in memory, or read batch by batch.

Importing this file does not import torch, so that figures start fast.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bayestda.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Inputs = "Tensor | Mapping[str, Tensor]"  # what a network is called with: f(x), or f(**x)
# Examples evaluated together, on a GPU or not: on a CPU their images stay in its cache. Only speed.
EVALUATION_BATCH = {False: 30, True: 100}
LABELS = ("labels", "label", "y", "target")  # keys of targets in dict batches


class Examples(Protocol):
    """A set of examples."""

    @property
    def index(self) -> np.ndarray:
        """Names of the examples [N]."""

    def __len__(self) -> int: ...

    def take(self, chosen: "slice | Tensor") -> "Data":
        """Some of the examples, in memory."""


@dataclass(frozen=True, eq=False)
class Data:
    """Examples in memory.

    Attributes:
        x: inputs: one tensor [N, ...], or tensors [N, ...] by the name of the network's argument.
        y: targets [N] or [N, ...].
        index: int64 [N], names of the examples: their numbers in the data set they come from.
        crops: int64 [N, 4], the part of each image that x shows (top, left, height, width), or
            None: all of it.
    """

    x: Any
    y: "Tensor"
    index: np.ndarray
    crops: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, chosen: "slice | Tensor") -> "Data":
        """Some of the examples; a slice copies nothing."""
        at = chosen if isinstance(chosen, slice) else chosen.cpu().numpy()
        crops = None if self.crops is None else self.crops[at]
        return replace(
            self, x=rows_of(self.x, chosen), y=self.y[chosen], index=self.index[at], crops=crops
        )


@dataclass(frozen=True, eq=False)
class Streamed:
    """Examples of a data set, read and collated whenever they are asked for.

    Attributes:
        dataset: with a length and items by number, as ``torch.utils.data.Dataset``.
        collate: makes a batch of a list of items.
        place: moves a batch to the device and dtype of the network.
        index: names of the examples.
    """

    dataset: Any
    collate: Callable[[list], Any]
    place: "Callable[[Any, Any], tuple[Any, Tensor]]"
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, chosen: "slice | Tensor") -> Data:
        """Some of the examples, read now."""
        numbers = range(len(self))[chosen] if isinstance(chosen, slice) else chosen.tolist()
        x, y = _inputs_and_targets(self.collate([self.dataset[number] for number in numbers]))
        x, y = self.place(x, y)
        return Data(x, y, self.index[list(numbers)])


def rows_of(x: Any, chosen: Any) -> Any:
    """Rows of a tensor, or of each tensor in a mapping."""
    if isinstance(x, Mapping):
        return {name: value[chosen] for name, value in x.items()}
    return x[chosen]


def labels(dim: str, data: Examples) -> dict[str, Any]:
    """Coordinates of a dim of examples: their names, and their targets where these are classes."""
    coordinates: dict[str, Any] = {dim: data.index}
    if isinstance(data, Data) and data.y.ndim == 1 and not data.y.is_floating_point():
        coordinates[f"{dim}_label"] = (dim, data.y.cpu().numpy())
    return coordinates


def examples(source: Any, device: "torch.device", dtype: "torch.dtype") -> Examples:
    """What users have as what methods take.

    Args:
        source: ``(x, y)`` with x a tensor, an array or a mapping of them; a mapping with one of
            the keys ``labels``, ``label``, ``y``, ``target``; a ``Dataset``; a ``DataLoader``
            (read in the data set's order, whatever its sampler, with its collate function).
        device, dtype: of the network; inputs and targets of a floating type are converted.

    Raises:
        UserError: not one of these, no examples, or of unequal lengths.
    """
    if isinstance(source, (Data, Streamed)):
        return source
    if isinstance(source, tuple | Mapping) and not hasattr(source, "__getitems__"):
        x, y = place(*_inputs_and_targets(source), device, dtype)
        _check_lengths(x, y)
        return Data(x, y, np.arange(len(y)))
    from torch.utils.data import IterableDataset, default_collate

    dataset, collate = getattr(source, "dataset", source), getattr(source, "collate_fn", None)
    by_number = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    if not by_number or isinstance(dataset, IterableDataset):  # which inherits a __getitem__
        raise UserError(
            f"examples of type {type(source).__name__} cannot be read by number: give (x, y), a "
            "Dataset with __len__ and __getitem__, or a DataLoader of one"
        )
    if not len(dataset):
        raise UserError("there are no examples: the data set is empty")
    return Streamed(
        dataset, collate or default_collate, lambda x, y: place(x, y, device, dtype),
        np.arange(len(dataset)),
    )  # fmt: skip


def place(x: Any, y: Any, device: "torch.device", dtype: "torch.dtype") -> tuple[Any, "Tensor"]:
    """Inputs and targets as tensors on a device; those of a floating type in the given dtype."""
    import torch

    def convert(value: Any) -> "Tensor":
        tensor = torch.as_tensor(value, device=device)
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    placed = {name: convert(v) for name, v in x.items()} if isinstance(x, Mapping) else convert(x)
    return placed, convert(y)


def _inputs_and_targets(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        key = next((key for key in LABELS if key in batch), None)
        if key is None:
            raise UserError(
                f"a batch with the keys {sorted(batch)} has no targets: name them 'labels'"
            )
        return {name: value for name, value in batch.items() if name != key}, batch[key]
    if not isinstance(batch, Sequence) or len(batch) != 2:
        raise UserError("a batch must be (inputs, targets), or a mapping with the key 'labels'")
    return batch[0], batch[1]


def _check_lengths(x: Any, y: "Tensor") -> None:
    tensors = list(x.values()) if isinstance(x, Mapping) else [x]
    lengths = {len(tensor) for tensor in (*tensors, y)}
    if len(lengths) != 1:
        raise UserError(f"inputs and targets have different lengths: {sorted(lengths)}")
    if not len(y):
        raise UserError("there are no examples: inputs and targets are empty")


def blocks(data: Examples, size: int) -> Iterator[Data]:
    """The examples, some at a time."""
    for start in range(0, len(data), size):
        yield data.take(slice(start, min(start + size, len(data))))


def joined(train: Data, added: Data) -> Data:
    """The examples of D, then those that are not in D."""
    import torch

    def join(a: "Tensor", b: "Tensor") -> "Tensor":
        return torch.cat([a, b])

    x: Any = (
        {name: join(value, added.x[name]) for name, value in train.x.items()}
        if isinstance(train.x, dict)
        else join(train.x, added.x)
    )
    return Data(x, join(train.y, added.y), np.concatenate([train.index, added.index]))
