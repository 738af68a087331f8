"""Temporary files for rows that do not fit into memory."""

import shutil
import weakref
from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import mkdtemp

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bayestda.errors import UserError


class Scratch:
    """A folder of shards, deleted by ``close()`` or when nothing refers to it any more.

    Args:
        folder: An existing folder on a disk with enough room; a new one is made inside.

    Raises:
        UserError: The folder does not exist or cannot be written.
    """

    def __init__(self, folder: str | Path):
        try:
            self._folder = Path(mkdtemp(dir=folder, prefix="tda-"))
        except OSError as error:
            raise UserError(f"scratch={str(folder)!r} must be a folder to write into") from error
        self._numbers, self._device = count(), "cpu"
        self.close = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def name(self) -> str:
        """Return a name that no other shard has."""
        return str(next(self._numbers))

    def has(self, name: str) -> bool:
        """Return whether a shard has been written."""
        return self._path(name).exists()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.safetensors"

    def tensors(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return a shard's tensors: made and written first, later read to the same device.

        Raises:
            UserError: The shard cannot be written.
        """
        path = self._path(name)
        if path.exists():
            return load_file(path, device=self._device)
        tensors = make()
        self._device = str(next(iter(tensors.values())).device)
        try:
            save_file({key: value.contiguous() for key, value in tensors.items()}, path)
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"scratch={str(self._folder.parent)!r} cannot be written ({error}): free some "
                "space, give a folder with more, or leave scratch out"
            ) from error
        return tensors
