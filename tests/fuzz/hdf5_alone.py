"""What HDF5 makes of damaged score files without their checksum: why they have one.

    python tests/fuzz/hdf5_alone.py 300

Prints how many of so many files are read as they were, read with other contents, refused, or keep
HDF5 busy for 5 s of CPU time or end the process.
"""

import random
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import xarray as xr

sys.path[1:1] = [str(Path(__file__).resolve().parents[up]) for up in (1, 2)]

import reader  # noqa: E402

from bayestda.errors import UserError  # noqa: E402
from bayestda.experiments import results  # noqa: E402
from bayestda.files import checksums  # noqa: E402

reader.CPU_SECONDS = 5
KINDS = {"one flipped bit": 1, "16 bytes overwritten": 16}


def written(folder: Path) -> bytes:
    """Scores as a stage writes them, without the checksum."""
    score = np.random.default_rng(0).normal(size=(1, 2, 4, 5)).astype("f4")
    coords = {"seed": [446], "checkpoint": [1, 2], "train": [3, 4, 5, 9], "test": np.arange(5)}
    dataset = xr.Dataset({"score": (("seed", "checkpoint", "train", "test"), score)}, coords)
    results.write_scores(folder / "whole.nc", dataset, {"method": "loo"})
    return (folder / "whole.nc").read_bytes()[: -len(checksums.sealed(b""))]


def compared(whole: Path, path: Path) -> None:
    """Read a damaged file; contents that differ are what ``reader`` calls a traceback."""
    try:
        found = xr.load_dataset(path, engine="h5netcdf")
    except Exception as error:
        raise UserError("refused") from error
    assert found.identical(xr.load_dataset(whole, engine="h5netcdf")), "other contents"


def damaged(content: bytes, size: int, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    new = rng.randbytes(size) if size > 1 else bytes([content[at] ^ 1 << rng.randrange(8)])
    return content[:at] + new[: len(content) - at] + content[at + len(new) :]


def main(count: int) -> None:
    """Damage a file many times in each way."""
    folder, rng = Path(mkdtemp()), random.Random(0)
    content = written(folder)
    (folder / "unsealed.nc").write_bytes(content)
    for kind, size in KINDS.items():
        own = reader.Reader(partial(compared, folder / "unsealed.nc"), folder / "file.nc")
        found = Counter(named(own.outcome(damaged(content, size, rng))) for _ in range(count))
        own.close()
        print(f"{kind}: {dict(found)}")


def named(outcome: str) -> str:
    return "other contents" if "other contents" in outcome else outcome


if __name__ == "__main__":
    main(int(sys.argv[1]))
