"""Sources of images (the hub, torchvision, a local folder), and the format of stored images."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from bayestda.errors import UserError
from bayestda.experiments import paths, tasks
from bayestda.experiments.data.images import read_table, with_columns
from bayestda.files import atomic

SPLITS = ("train", "test")
_ELSEWHERE = "or name a folder with train.parquet and test.parquet by --source"


def read(source: str, task: str, split: str) -> pa.Table:
    """Read one split, still encoded, with the columns bytes, label and index.

    Args:
        source: ``hub``, ``torchvision``, or a folder.
        task: Name of a task.
        split: Name of the split, train or test.

    Raises:
        UserError: The source cannot be reached or read.
    """
    entry = tasks.TASKS[task]
    if source == "hub" and entry.hub:
        return with_columns(_hub(entry.hub, split), f"the hub's data set {entry.hub}")
    if source == "torchvision" and entry.torchvision:
        return _torchvision(entry.torchvision, split)
    if source in ("hub", "torchvision"):
        raise UserError(f"task {task} has no data set there (--source {source}): {_ELSEWHERE[3:]}")
    return _folder(source, split)


def from_arrays(pixels: np.ndarray, labels: np.ndarray) -> pa.Table:
    """Encode images as PNG, which keeps every pixel.

    Args:
        pixels: Uint8 [N H W], or [N H W 3] in colour.
        labels: Whole numbers [N].

    Returns:
        Columns bytes, label and index, which counts from 0.
    """
    encoded = [{"bytes": _png(image)} for image in pixels]
    return with_columns(pa.table({"image": encoded, "label": labels}), "the arrays")


def write(path: Path, table: pa.Table, exact: bool) -> None:
    """Write an image file, the images' bytes as they are; the hub's reader decodes it as well.

    Args:
        path: Destination.
        table: Columns bytes, label and index.
        exact: Whether the pixels are the original ones and not those of a JPEG copy.
    """
    whole_number = {"_type": "Value", "dtype": "int64"}
    features = {"image": {"_type": "Image"}, "label": whole_number, "index": whole_number}
    image = pa.StructArray.from_arrays(
        [table["bytes"].combine_chunks(), pa.nulls(len(table), pa.string())], ["bytes", "path"]
    )
    stored = pa.table({"image": image, "label": table["label"], "index": table["index"]})
    stored = stored.replace_schema_metadata(
        {
            "huggingface": json.dumps({"info": {"features": features}}),
            "exact": json.dumps(exact),
        }
    )
    atomic.write_whole(path, lambda temporary: pq.write_table(stored, temporary))


def _folder(source: str, split: str) -> pa.Table:
    """Read ``train.parquet`` of a folder, or shards as on the hub (``train-00000-of-00002``)."""
    folder = paths.local_folder(source)
    if folder is None:
        raise UserError(f"there is no folder {source}: --source is hub, torchvision or a folder")
    files = sorted(folder.glob(f"{split}.parquet")) or sorted(folder.glob(f"{split}-*.parquet"))
    if not files:
        raise UserError(f"{folder} has no {split}.parquet: name a folder that has, by --source")
    return read_table(files, "fetch it again, or name another --source")


def _hub(name: str, split: str) -> pa.Table:
    try:
        import datasets

        return datasets.load_dataset(name, split=split).with_format("arrow")[:]
    except ImportError as error:
        raise UserError(f"--source hub needs `pip install datasets`, {_ELSEWHERE}") from error
    except Exception as error:  # datasets, huggingface_hub and its client each raise their own
        raise UserError(
            f"the hub's data set {name} cannot be fetched ({_one_line(error)}): "
            f"mend the connection and try again, take --source torchvision, {_ELSEWHERE}"
        ) from error


def _torchvision(name: str, split: str) -> pa.Table:
    """Read torchvision's data set, and encode its pixels as PNG (lossless)."""
    cache = paths.root() / "data" / "cache"
    try:
        from bayestda.experiments.networks.torchvision_operators import (
            import_torchvision,  # imports torch: only when asked
        )

        dataset_class = getattr(import_torchvision().datasets, name)
        dataset = dataset_class(cache, train=split == "train", download=True)
    except ImportError as error:
        message = f"--source torchvision needs `pip install torchvision`, {_ELSEWHERE}"
        raise UserError(message) from error
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"torchvision cannot fetch {name} into {cache} ({_one_line(error)}): "
            "delete that folder, mend the connection and try again, take --source hub, "
            + _ELSEWHERE
        ) from error
    return from_arrays(np.asarray(dataset.data), np.asarray(dataset.targets))


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
