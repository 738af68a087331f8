"""Seal netCDF files with a checksum at their end, and check it before HDF5 reads them.

One flipped bit can make HDF5 run for ever, or change a coordinate unnoticed: docs/reliability.md.
HDF5 knows where its content ends, so that other netCDF readers open a sealed file as usual.
"""

import hashlib
from pathlib import Path

MARK = b"tda:sha256:"
_LENGTH = len(MARK) + hashlib.sha256().digest_size
_BLOCK = 2**20  # bytes read at a time: the memory that a check takes


def sealed(content: bytes | memoryview) -> bytes:
    """Return the content of a file with its seal (marker and SHA-256 digest) appended."""
    return bytes(content) + MARK + hashlib.sha256(content).digest()


def check(path: Path) -> None:
    """Compare a file with its seal.

    Raises:
        ValueError: The file has no seal, or does not match it; the message says which.
        OSError: The file cannot be read.
    """
    seal = _seal(path)
    if seal is None:
        raise ValueError("no checksum at its end")
    if seal != _digest(path, path.stat().st_size - _LENGTH):
        raise ValueError("does not match its checksum")


def _seal(path: Path) -> bytes | None:
    """The digest at the end of a file, or None."""
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
