"""Outputs that scores are written to block by block: an array, or a file never whole in memory."""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import h5netcdf
import numpy as np
import xarray as xr

from bayestda.errors import UserError
from bayestda.files import atomic, provenance

Place = tuple[int, ...]  # of one sample's scores: damping, seed, checkpoint, as far as there are


class Output(Protocol):
    """An array of zeros [..., N, M] to write into."""

    def read(self, place: Place, rows: slice, columns: slice) -> np.ndarray:
        """Return a block of one sample's scores."""

    def write(self, place: Place, rows: slice, columns: slice, block: np.ndarray) -> None:
        """Put a block in its place."""


class InMemory:
    """An array in memory.

    Args:
        values: Zeros [..., N, M].
    """

    def __init__(self, values: np.ndarray):
        self.values = values

    def read(self, place: Place, rows: slice, columns: slice) -> np.ndarray:
        """Return a block of one sample's scores."""
        return self.values[place][rows, columns]

    def write(self, place: Place, rows: slice, columns: slice, block: np.ndarray) -> None:
        """Put a block in its place."""
        self.values[place][rows, columns] = block


class Diagonal:
    """An array of what examples score for themselves: the diagonal of square blocks.

    Args:
        values: Zeros [..., N].
    """

    def __init__(self, values: np.ndarray):
        self.values = values

    def read(self, place: Place, rows: slice, columns: slice) -> np.ndarray:
        """Return a block with these scores on its diagonal, and zeros."""
        block = np.zeros((rows.stop - rows.start, columns.stop - columns.start), self.values.dtype)
        at, in_rows, in_columns = self._common(rows, columns)
        block[in_rows, in_columns] = self.values[place][at]
        return block

    def write(self, place: Place, rows: slice, columns: slice, block: np.ndarray) -> None:
        """Keep the diagonal."""
        at, in_rows, in_columns = self._common(rows, columns)
        self.values[place][at] = block[in_rows, in_columns]

    def _common(self, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the examples of both slices, and their places in both."""
        at = np.arange(max(rows.start, columns.start), min(rows.stop, columns.stop))
        return at, at - rows.start, at - columns.start


class InFile:
    """An array in a file, from some byte on, in C order; what was not written reads as zeros.

    Args:
        path: The file's path, for errors.
        descriptor: The file's descriptor, open for reading and writing.
        offset: The byte at which the array starts.
        sizes, dtype: Sizes and type of the array.
    """

    def __init__(
        self, path: Path, descriptor: int, offset: int, sizes: tuple[int, ...], dtype: np.dtype
    ):
        self._path, self._descriptor, self._offset = path, descriptor, offset
        self._sizes, self._dtype = sizes, dtype

    def read(self, place: Place, rows: slice, columns: slice) -> np.ndarray:
        """Return a block of one sample's scores."""
        width = columns.stop - columns.start
        parts = [
            os.pread(self._descriptor, size, at) for at, size in self._pieces(place, rows, columns)
        ]
        return np.frombuffer(b"".join(parts), self._dtype).reshape(-1, width)

    def write(self, place: Place, rows: slice, columns: slice, block: np.ndarray) -> None:
        """Put a block in its place.

        Raises:
            UserError: the disk is full.
        """
        content = np.ascontiguousarray(block, self._dtype).data.cast("B")
        with atomic.said_of_writing(self._path):
            for at, size in self._pieces(place, rows, columns):
                piece, content = content[:size], content[size:]
                while piece:  # more than 2 GB take several calls
                    count = os.pwrite(self._descriptor, piece, at)
                    piece, at = piece[count:], at + count

    def _pieces(self, place: Place, rows: slice, columns: slice) -> Iterator[tuple[int, int]]:
        """Yield where a block's contiguous pieces are in the file, and their sizes, in bytes."""
        num_test, item = self._sizes[-1], self._dtype.itemsize
        sample = np.ravel_multi_index(place, self._sizes[:-2])
        first_row = int(sample) * self._sizes[-2]
        if columns.stop - columns.start == num_test:
            at = (first_row + rows.start) * num_test
            yield self._offset + at * item, (rows.stop - rows.start) * num_test * item
            return
        for row in range(rows.start, rows.stop):
            at = (first_row + row) * num_test + columns.start
            yield self._offset + at * item, (columns.stop - columns.start) * item


@contextmanager
def score_file(path: Path, templates: Sequence[xr.DataArray]) -> Iterator[list[InFile]]:
    """Open a netCDF file of scores to be filled in; it has its name only once that is done.

    HDF5 writes labels and the array's place, plain writes fill that: a full disk is then an error
    like any other, where in HDF5's own writing it can end the process.

    Args:
        path: The file's path.
        templates: Name, sizes, type, coordinates and attributes of each array of scores. Their
            values are not read.

    Raises:
        UserError: the file exists, or cannot be written.
    """
    if path.exists():
        reader = "open_dataset" if len(templates) > 1 else "open_dataarray"
        raise UserError(
            f"{path} exists: read it by xarray.{reader}({str(path)!r}), delete it, or give "
            "output= another name"
        )
    with atomic.writing_whole(path) as temporary:
        with atomic.said_of_writing(path):
            offsets = _frame(temporary, templates)
            descriptor = os.open(temporary, os.O_RDWR)
        try:
            yield [
                InFile(path, descriptor, offset, template.shape, template.dtype)
                for offset, template in zip(offsets, templates, strict=True)
            ]
        finally:
            os.close(descriptor)


def _frame(path: Path, templates: Sequence[xr.DataArray]) -> list[int]:
    """Write everything but the scores; return where each array starts, in bytes."""
    coords: dict[Any, Any] = {}
    for template in templates:
        coords |= template.coords
    path.write_bytes(xr.Dataset(coords=coords).to_netcdf(engine="h5netcdf"))
    offsets = []
    with h5netcdf.File(path, "a") as file:
        for template in templates:
            scores = file.create_variable(str(template.name), template.dims, template.dtype)
            scores.attrs.update(_attributes(template))
            scores[tuple(size - 1 for size in template.shape)] = 0  # gives the array its place
            offsets.append(scores._h5ds.id.get_offset())
    return offsets


def _attributes(template: xr.DataArray) -> dict[str, Any]:
    extra = " ".join(str(name) for name in template.coords if name not in template.dims)
    return {**template.attrs, **provenance.versions(), **({"coordinates": extra} if extra else {})}


def opened(path: Path, *, several: bool) -> xr.DataArray | xr.Dataset:
    """Return scores whose values are read from a file when asked for.

    xarray opens files again by their path, and would read another file that lies there by then. It
    is given the open file, which stays the same one when its name is taken by another.

    Args:
        path: A file of :func:`score_file`.
        several: Whether it holds a data set of several methods.
    """
    read = xr.open_dataset if several else xr.open_dataarray
    return read(_OpenFile(path), engine="h5netcdf")


class _OpenFile(io.FileIO):
    """A file that closes with the last array that reads it, as arrays are rarely closed."""

    def __del__(self) -> None:
        self.close()
