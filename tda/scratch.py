"""Temporary files for what does not fit into memory."""

import shutil
import weakref
from collections.abc import Callable
from itertools import count
from math import prod
from pathlib import Path
from tempfile import mkdtemp

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tda.errors import UserError


class Scratch:
    """A folder of shards and arrays, deleted by ``close()`` or when nothing refers to it any more.

    Args:
        folder: an existing folder on a disk with enough room; a new one is made inside.

    Raises:
        UserError: the folder does not exist or cannot be written.
    """

    def __init__(self, folder: str | Path):
        try:
            self._folder = Path(mkdtemp(dir=folder, prefix="tda-"))
        except OSError as error:
            raise UserError(f"scratch={str(folder)!r} must be a folder to write into") from error
        self._numbers = count()
        self.close = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def name(self) -> str:
        """A name that no other shard has."""
        return str(next(self._numbers))

    def tensors(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors of a shard: made and written the first time, read then."""
        path = self._folder / f"{name}.safetensors"
        if path.exists():
            return load_file(path)
        tensors = make()
        save_file({key: value.contiguous() for key, value in tensors.items()}, path)
        return tensors

    def array(self, sizes: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An array on disk that is used like one in memory."""
        path = self._folder / f"{self.name()}.array"
        mapped = torch.from_file(str(path), shared=True, size=prod(sizes), dtype=dtype)
        return mapped.reshape(sizes)


def empty(
    sizes: tuple[int, ...], like: Tensor, scratch: Scratch | None, memory_bytes: float
) -> Tensor:
    """An array of a tensor's dtype and device, on disk if it is too large and there is scratch."""
    if scratch and prod(sizes) * like.element_size() > memory_bytes:
        return scratch.array(sizes, like.dtype)
    return like.new_empty(sizes)
