"""Image files and index lists: how they are read, checked and decoded.

An image file is a parquet file with the columns ``image`` (struct of ``bytes`` and ``path``, the
hub's schema), ``label`` and ``index`` (the image's number in its original split); its metadata
``exact`` says whether these are the original pixels.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from bayestda.errors import UserError
from bayestda.experiments import paths, tasks

_UNDECODABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    Image.DecompressionBombError,
)
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, eq=False)
class Images:
    """Decoded images with their labels and original numbers.

    Attributes:
        pixels: Array uint8 [N, H, W] or [N, H, W, 3].
        label: Array int64 [N].
        index: Array int64 [N] of the numbers in the original split.
        exact: Whether these are the original pixels; False if they went through JPEG.
    """

    pixels: np.ndarray
    label: np.ndarray
    index: np.ndarray
    exact: bool


def read_images(path: Path, numbers: np.ndarray | None = None) -> Images:
    """Decode an image file.

    Args:
        path: An image file of a task (:func:`bayestda.experiments.paths.images`).
        numbers: Original numbers [N] of the images to decode, in this order; None: all.

    Raises:
        UserError: The file is missing or damaged, or lacks one of the numbers.
    """
    mend = f"run `{prepare_command(path.parent.name)}`"
    if not path.exists():
        raise UserError(f"{path} is missing: {mend}")
    table = read_table([path], mend)
    where = f"{path} ({mend})"
    return decode(table if numbers is None else take(table, numbers, where), where)


def read_table(files: list[Path], mend: str) -> pa.Table:
    """Read the images of one file or several shards, still encoded: columns bytes, label, index.

    Args:
        files: Parquet files with the columns ``image`` or ``img``, ``label`` and maybe ``index``;
            without it images are numbered in the order in which they stand.
        mend: Advice about a damaged file, for the error's message.

    Raises:
        UserError: A file is truncated, foreign, or lacks a column.
    """
    name = " and ".join(map(str, files))
    try:
        table = pa.concat_tables([_whole(file) for file in files])
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(
            f"{name} is damaged or no parquet file ({type(error).__name__}): {mend}"
        ) from error
    return with_columns(table, f"{name} ({mend})")


def _whole(file: Path) -> pa.Table:
    """Read one file's table without pyarrow's data sets and threads, which take memory late."""
    with pq.ParquetFile(file) as opened:
        return opened.read(use_threads=False)


def with_columns(table: pa.Table, where: str) -> pa.Table:
    """Bring a table to the columns bytes, label, index, and keep its metadata.

    Raises:
        UserError: A column is missing or of another type; a number occurs twice.
    """
    image = "image" if "image" in table.column_names else "img"
    if not {image, "label"} <= set(table.column_names):
        found = ", ".join(table.column_names)
        raise UserError(f"{where} lacks the columns image (or img) and label: it has {found}")
    column = table["index"] if "index" in table.column_names else np.arange(len(table))
    try:
        index, label = (pa.array(np.asarray(c), pa.int64()) for c in (column, table["label"]))
        encoded = table[image].combine_chunks().field("bytes")
    except (pa.ArrowException, AttributeError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{where} needs image as struct of bytes and path, label and index as whole numbers"
        ) from error
    if len(set(index.to_pylist())) < len(table):
        raise UserError(f"{where} has the same index in two rows")
    columns = {"bytes": encoded, "label": label, "index": index}
    return pa.table(columns).replace_schema_metadata(table.schema.metadata)


def take(table: pa.Table, numbers: np.ndarray, where: str) -> pa.Table:
    """Return the rows of a table with the given original numbers, in their order.

    Raises:
        UserError: A number is not in the table.
    """
    index = table["index"].to_numpy()
    absent = numbers[~np.isin(numbers, index)]
    if len(absent):
        raise UserError(
            f"{where} holds {len(index)} images, not number {absent[0]}"
            + (f" and {len(absent) - 1} more that are asked for" if len(absent) > 1 else "")
        )
    order = np.argsort(index)
    return table.take(pa.array(order[np.searchsorted(index, numbers, sorter=order)]))


def decode(table: pa.Table, where: str) -> Images:
    """Decode all images of a table.

    Raises:
        UserError: There are none, one is damaged, or they are not of one shape.
    """
    encoded = table["bytes"].to_pylist()
    try:
        pixels = np.stack([_pixels(image) for image in encoded])
    except _UNDECODABLE as error:
        raise UserError(
            f"{where} has an image that cannot be decoded, or images of unequal shape: {error}"
        ) from error
    declared = (table.schema.metadata or {}).get(b"exact", b"true") == b"true"
    return Images(
        pixels=pixels,
        label=table["label"].to_numpy(),
        index=table["index"].to_numpy(),
        exact=declared and all(image.startswith(_PNG) for image in encoded),
    )


def fingerprint(*subsets: Images, pixels: bool = True) -> str:
    """Return the SHA-256 (hexadecimal) of pixels, labels and numbers, or without the pixels."""
    digest = hashlib.sha256()
    for images in subsets:
        digest.update(repr(images.pixels.shape if pixels else images.label.shape).encode())
        digest.update(images.pixels.tobytes() if pixels else b"")
        digest.update(images.label.astype("<i8").tobytes() + images.index.astype("<i8").tobytes())
    return digest.hexdigest()


def read_index_list(path: Path) -> np.ndarray:
    """Read image numbers of a text file, int64 [N], in its order.

    Raises:
        UserError: The file is missing, empty, has a line that is no number, or a number twice.
    """
    mend = f"restore it with `git checkout {path}` or run `{prepare_command(path.parent.name)}`"
    try:
        lines = path.read_text().split()
        numbers = np.array([int(line) for line in lines], dtype=np.int64)
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"{path} is no list of image numbers ({error}): {mend}") from error
    if not lines or numbers.min() < 0:
        raise UserError(f"{path} is empty or has a negative number: {mend}")
    different, counts = np.unique(numbers, return_counts=True)
    if counts.max() > 1:
        raise UserError(f"{path} names image {different[counts.argmax()]} twice: {mend}")
    return numbers


def prepare_command(task: str) -> str:
    """Return the command that makes the data of a task; ``mnist3s7`` is a subset drawn with seed 7.

    A subset that was drawn before is drawn again with the sizes that it has.
    """
    found = tasks.parse(task)
    if not found:
        return "python data/prepare.py --help"
    entry, seed = found
    subset = f" --new_subset {seed}{_drawn_sizes(task)}" if seed else ""
    source = "hub" if entry.hub else "FOLDER"
    return f"python data/prepare.py --task {entry.name} --source {source}{subset}"


def _drawn_sizes(task: str) -> str:
    """Return the flags of the sizes that a subset was drawn with, if that is known."""
    try:
        record = json.loads((paths.data(task) / "subset.json").read_text())
        sizes = " ".join(f"{size:d}" for size in record["num_per_class"])
        return f" --num_per_class {sizes} --num_test_per_class {record['num_test_per_class']:d}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _pixels(encoded: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(encoded)) as image:
        if image.mode not in ("L", "RGB"):
            raise ValueError(f"image of mode {image.mode}, not L (grey) or RGB")
        return np.asarray(image)
