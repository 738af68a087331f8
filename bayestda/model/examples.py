"""Hold examples in memory, or read them batch by batch."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from bayestda.errors import UserError
from bayestda.model.collating import check_lengths, inputs_and_targets, stacking, tensors_of
from bayestda.model.inputs import concatenated, mapped, rows_of

# Examples evaluated at a time, on a CPU (False) and a GPU (True). On a CPU that many activations
# stay in the cache. Changes only the speed.
EVALUATION_BATCH = {False: 30, True: 100}


class Examples(Protocol):
    """Define what a set of examples must offer."""

    @property
    def index(self) -> np.ndarray:
        """Return the names of the examples [N]."""

    def __len__(self) -> int: ...

    def take(self, chosen: slice | Tensor) -> "Data":
        """Return some of the examples, in memory."""


@dataclass(frozen=True, eq=False)
class Data:
    """Hold examples in memory.

    Attributes:
        x: Inputs: one tensor [N, ...], or mappings, tuples and lists of such tensors.
        y: Targets [N] or [N, ...].
        index: Names of the examples, int64 [N]: their numbers in the data set they come from.
        crops: Part of each image that x shows, int64 [N, 4] (top, left, height, width); None:
            the whole image.
    """

    x: Any
    y: Tensor
    index: np.ndarray
    crops: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, chosen: slice | Tensor) -> "Data":
        """Return some of the examples; a slice copies nothing."""
        rows = chosen if isinstance(chosen, slice) else chosen.cpu().numpy()
        crops = None if self.crops is None else self.crops[rows]
        return replace(
            self, x=rows_of(self.x, chosen), y=self.y[chosen], index=self.index[rows], crops=crops
        )


@dataclass(frozen=True, eq=False)
class Streamed:
    """Read and collate examples of a data set each time they are needed.

    Attributes:
        dataset: A data set with a length and items by number, as ``torch.utils.data.Dataset``.
        collate: A function that makes a batch from a list of items.
        place: A function that moves a batch to the device and dtype of the network.
        index: Names of the examples [N].
    """

    dataset: Any
    collate: Callable[[list], Any]
    place: Callable[[Any, Any], tuple[Any, Tensor]]
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, chosen: slice | Tensor) -> Data:
        """Read some of the examples."""
        numbers = range(len(self))[chosen] if isinstance(chosen, slice) else chosen.tolist()
        x, y = inputs_and_targets(self.collate([self.dataset[number] for number in numbers]))
        x, y = self.place(x, y)
        check_lengths(x, y, len(numbers))
        return Data(x, y, self.index[list(numbers)])


def labels(dim: str, data: Examples) -> dict[str, Any]:
    """Return the coordinates of a dim of examples: their names and, if known, their classes.

    The coordinate ``<dim>_label`` exists for examples in memory whose targets are integers [N].
    """
    coordinates: dict[str, Any] = {dim: data.index}
    if isinstance(data, Data) and data.y.ndim == 1 and not data.y.is_floating_point():
        coordinates[f"{dim}_label"] = (dim, data.y.cpu().numpy())
    return coordinates


def examples(source: Any, device: torch.device, dtype: torch.dtype) -> Examples:
    """Convert a user's examples to the form that methods take.

    Args:
        source: Examples as ``(x, y)`` with x a tensor, an array, or mappings and tuples of them; as
            a mapping with one of the keys ``labels``, ``label``, ``y``, ``target``; as a
            ``Dataset``; or as a ``DataLoader``, which is read in the data set's order with its
            collate function, whatever its sampler.
        device: The device to move inputs and targets to.
        dtype: The type that floating inputs and targets are converted to.

    Raises:
        UserError: The source has another form, no examples, or parts of unequal lengths.
    """
    if isinstance(source, (Data, Streamed)):
        return source
    # A data set may be a tuple or mapping as well: its batched access, __getitems__, tells.
    if isinstance(source, tuple | Mapping) and not hasattr(source, "__getitems__"):
        x, y = place(*inputs_and_targets(source), device, dtype)
        check_lengths(x, y)
        return Data(x, y, np.arange(len(y)))
    dataset, collate = getattr(source, "dataset", source), getattr(source, "collate_fn", None)
    by_number = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    # An IterableDataset inherits a __getitem__ that only raises.
    if not by_number or isinstance(dataset, IterableDataset):
        raise UserError(
            f"examples of type {type(source).__name__} cannot be read by number: give (x, y), a "
            "Dataset with __len__ and __getitem__, or a DataLoader of one"
        )
    if not len(dataset):
        raise UserError("there are no examples: the data set is empty")
    return Streamed(
        dataset, stacking(collate), lambda x, y: place(x, y, device, dtype),
        np.arange(len(dataset)),
    )  # fmt: skip


def place(x: Any, y: Any, device: torch.device, dtype: torch.dtype) -> tuple[Any, Tensor]:
    """Convert inputs and targets to tensors on a device; floating ones get the given dtype.

    Raises:
        UserError: Something has no tensor that it could become.
    """

    def convert(value: Any) -> Tensor:
        tensor = value.to(device).detach()
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    return mapped(convert, tensors_of(x, "inputs")), convert(tensors_of(y, "targets"))


def blocks(data: Examples, size: int) -> Iterator[Data]:
    """Yield the examples in order, at most ``size`` at a time."""
    for start in range(0, len(data), size):
        yield data.take(slice(start, min(start + size, len(data))))


def joined(train: Data, added: Data) -> Data:
    """Concatenate two sets of examples: those of ``train``, then those of ``added``."""
    index = np.concatenate([train.index, added.index])
    return Data(concatenated(train.x, added.x), torch.cat([train.y, added.y]), index)
