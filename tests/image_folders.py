"""Small parquet folders of random images in the hub's schema; data/prepare.py as a function."""

import importlib.util
import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPT = REPOSITORY / "data" / "prepare.py"


def whole_data(name: str) -> Path:
    """A file or folder of a whole data set, below the folder that TDA_WHOLE_DATA names; or skip."""
    folder = os.environ.get("TDA_WHOLE_DATA")
    if not folder:
        pytest.skip("TDA_WHOLE_DATA names no folder of whole data sets")
    path = Path(folder) / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


def encode(pixels: np.ndarray, fmt: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=fmt)
    return buffer.getvalue()


def random_images(shape: tuple, classes: int, per_class: int, seed: int):
    """Pixels [N, ...] and labels [N], classes in random order."""
    generator = np.random.default_rng(seed)
    label = generator.permutation(np.repeat(np.arange(classes), per_class))
    return generator.integers(0, 256, (len(label), *shape), dtype=np.uint8), label


def write_file(path: Path, pixels, label, index=None, fmt="PNG", column="image", exact=None):
    images = [{"bytes": encode(image, fmt), "path": None} for image in pixels]
    columns = {column: images, "label": np.asarray(label)}
    columns |= {} if index is None else {"index": np.asarray(index)}
    metadata = {} if exact is None else {"exact": json.dumps(exact)}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)


def write_folder(folder: Path, shape=(28, 28), classes=10, per_class=6, **options) -> dict:
    """Write both splits; returns {split: (pixels, label)}."""
    made = {
        split: random_images(shape, classes, per_class, seed)
        for seed, split in enumerate(("train", "test"))
    }
    for split, (pixels, label) in made.items():
        write_file(folder / f"{split}.parquet", pixels, label, **options)
    return made


def write_list(path: Path, numbers) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{number}\n" for number in numbers))


def prepare(*flags) -> int:
    """The script's main function, in this process."""
    spec = importlib.util.spec_from_file_location("prepare", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        module.main([str(flag) for flag in flags])
    except SystemExit as ended:
        return int(ended.code)
    return 0


def error_of(capsys, *flags) -> str:
    assert prepare(*flags) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message


def contents(folder) -> dict:
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*")) if file.is_file()}
