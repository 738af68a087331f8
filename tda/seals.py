"""A checksum at the end of a netCDF file, compared before HDF5 sees what stands before it.

One flipped bit can keep HDF5 busy for ever, or change a coordinate unnoticed: docs/reliability.md.
HDF5 knows where its own content ends, so that other readers of netCDF open a sealed file as usual.

    python -m tda.seals [FILE ...]

seals files that have none, by default all below results/: those of an earlier version. Each is
read by a process of its own first.
"""

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from tda import paths
from tda.errors import UserError, guarded

MARK = b"tda:sha256:"
_LENGTH = len(MARK) + hashlib.sha256().digest_size
_SECONDS = 300  # that reading a whole file may take
_READ = "import sys, xarray; xarray.load_dataset(sys.argv[1], engine='h5netcdf')"
_BLOCK = 2**20


def sealed(content: bytes | memoryview) -> bytes:
    """The content of a file with its seal."""
    return bytes(content) + MARK + hashlib.sha256(content).digest()


def check(path: Path) -> None:
    """Compare a file with its seal.

    Raises:
        ValueError: it has none, or another; the message says which.
        OSError: it cannot be read.
    """
    seal = _seal(path)
    if seal is None:
        raise ValueError("no checksum at its end; `python -m tda.seals` adds one to older files")
    if seal != _digest(path, path.stat().st_size - _LENGTH):
        raise ValueError("other bytes than were written")


def add(path: Path) -> None:
    """Seal a file in place, if it has no seal and can be read; its time of change stays.

    Raises:
        UserError: it cannot be read, or takes too long.
    """
    if _seal(path) is not None:
        return
    _try_reading(path)
    times = path.stat()
    with path.open("ab") as file:
        file.write(MARK + _digest(path, times.st_size))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _seal(path: Path) -> bytes | None:
    """The digest that a file ends with, if it does."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LENGTH))
        end = file.read()
    return end[len(MARK) :] if len(end) == _LENGTH and end.startswith(MARK) else None


def _digest(path: Path, length: int) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while length > 0 and (block := file.read(min(length, _BLOCK))):
            digest.update(block)
            length -= len(block)
    return digest.digest()


def _try_reading(path: Path) -> None:
    command = [sys.executable, "-c", _READ, str(path)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__} while it was read): delete it and run "
            "the stage that makes it again"
        ) from error


def _main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    named = parser.parse_args().files
    for path in named or sorted((paths.root() / "results").rglob("*.nc")):
        if not path.is_file():
            raise UserError(f"there is no file {path}: name a netCDF file, or none for all results")
        add(path)
        print(path)


if __name__ == "__main__":
    guarded(_main)
