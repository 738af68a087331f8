"""What can be read of an experiment, and a sentence about what a page has to do without."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from bayestda.errors import UserError
from bayestda.experiments import paths

Read = TypeVar("Read")


def readable(
    names: Iterable[str], read: Callable[[str], Read]
) -> tuple[dict[str, Read], list[str]]:
    """What ``read`` makes of each name, and a sentence for each of which it makes nothing."""
    found, unreadable = {}, []
    for name in names:
        try:
            found[name] = read(name)
        except UserError as error:
            unreadable.append(str(error).replace(f"{paths.root()}/", ""))
    return found, unreadable


@contextmanager
def as_written(path: Path, command: object) -> Iterator[None]:
    """A sentence for what goes wrong with a file that has other columns or values than it should.

    Raises:
        UserError: the file is not as it was written.
    """
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is not as it was written ({error!r}): delete it and run `{command}`"
        ) from error
