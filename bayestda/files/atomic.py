"""Files written whole or not at all."""

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
    """Call ``write`` on a temporary name beside ``path``, then rename: all or nothing.

    Raises:
        UserError: as :func:`writing_whole`, also of what ``write`` does.
    """
    with writing_whole(path) as temporary, said_of_writing(path):
        write(temporary)


def remove(path: Path) -> None:
    """Remove a file, if it is there, that what is written now makes untrue.

    Raises:
        UserError: as :func:`writing_whole`.
    """
    with said_of_writing(path):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def said_of_writing(path: Path) -> Iterator[None]:
    """A sentence for what goes wrong while a file is written.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot write {path}: {reason}. Free some space or mend the folder's permissions, "
            "then run the same command again; what is finished is kept"
        ) from error


@contextlib.contextmanager
def writing_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to, renamed at the end: all or nothing.

    What the caller writes goes into :func:`said_of_writing`: it may do other things meanwhile.

    Raises:
        UserError: the disk is full or the folder cannot be written.
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
    """Random, as jobs of several machines may have one process number and one folder."""
    return path.with_name(f".{path.name}.{_HOST}-{process}-{secrets.token_hex(4)}.tmp")


def _remove_orphans(path: Path) -> None:
    """Remove what processes of this machine that were killed have left of the file."""
    orphan = re.compile(rf"\.{re.escape(path.name)}\.{re.escape(_HOST)}-(\d+)-[0-9a-f]+\.tmp")
    for file in path.parent.iterdir():
        match = orphan.fullmatch(file.name)
        if match and not psutil.pid_exists(int(match[1])):
            file.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file's content whole; errors as :func:`write_whole`."""
    try:
        write_whole(path, lambda temporary: temporary.write_bytes(content))
    except UserError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        # Another job has finished the run meanwhile, and removed the folder of its parts.
        write_whole(path, lambda temporary: temporary.write_bytes(content))


_HOST = re.sub(r"[^\w.]", "_", platform.node())
