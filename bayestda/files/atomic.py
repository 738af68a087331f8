"""Write files whole or not at all."""

import contextlib
import os
import platform
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from bayestda.errors import UserError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` with a temporary name beside ``path``, then rename the file to ``path``.

    Args:
        path: The file to write; its folder is made if it does not exist.
        write: A function that writes the file under the name it is given.

    Raises:
        UserError: The disk is full, or the folder cannot be written, here or within ``write``.
    """
    with writing_whole(path) as temporary, said_of_writing(path):
        write(temporary)


def remove(path: Path) -> None:
    """Remove a file, if it exists, whose content new results contradict.

    Raises:
        UserError: The folder cannot be written.
    """
    with said_of_writing(path):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def said_of_writing(path: Path) -> Iterator[None]:
    """Turn errors of the operating system while a file is written into one that names the file.

    Raises:
        UserError: The disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot write {path}: {reason}. Free some space or mend the folder's permissions, "
            "then run the same command again; finished results are kept"
        ) from error


@contextlib.contextmanager
def writing_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``, and rename it to ``path`` at the end.

    After an error the temporary file is removed and ``path`` stays as it was. The caller may do
    other things in between, so it wraps its own writing in :func:`said_of_writing`.

    Raises:
        UserError: The disk is full, or the folder cannot be written.
    """
    temporary = _temporary(path, os.getpid())
    try:
        with said_of_writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_orphans(path)
        yield temporary
        with said_of_writing(path):
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _temporary(path: Path, process: int) -> Path:
    # The random part keeps jobs apart that share a folder and, by chance, a process number.
    return path.with_name(f".{path.name}.{_HOST}-{process}-{secrets.token_hex(4)}.tmp")


def _remove_orphans(path: Path) -> None:
    """Remove temporary files of ``path`` whose processes on this machine no longer run."""
    orphan = re.compile(rf"\.{re.escape(path.name)}\.{re.escape(_HOST)}-(\d+)-[0-9a-f]+\.tmp")
    for file in path.parent.iterdir():
        match = orphan.fullmatch(file.name)
        if match and not psutil.pid_exists(int(match[1])):
            file.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file's content whole.

    Raises:
        UserError: The disk is full, or the folder cannot be written.
    """
    try:
        write_whole(path, lambda temporary: temporary.write_bytes(content))
    except UserError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        # Another job finished the run in the meantime and removed the folder: make it again.
        write_whole(path, lambda temporary: temporary.write_bytes(content))


_HOST = re.sub(r"[^\w.]", "_", platform.node())
