"""A checksum at the end of a netCDF file, compared before HDF5 sees what stands before it.

One flipped bit can keep HDF5 busy for ever, or change a coordinate unnoticed: docs/reliability.md.
HDF5 knows where its own content ends, so that other readers of netCDF open a sealed file as usual.
"""

import hashlib
from pathlib import Path

MARK = b"tda:sha256:"
_LENGTH = len(MARK) + hashlib.sha256().digest_size
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
        raise ValueError("no checksum at its end")
    if seal != _digest(path, path.stat().st_size - _LENGTH):
        raise ValueError("other bytes than were written")


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
