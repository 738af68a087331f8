"""Read what can be read of an experiment, and say what a page has to do without."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from bayestda.errors import UserError
from bayestda.experiments import paths, results

Read = TypeVar("Read")


def readable(
    names: Iterable[str], read: Callable[[str], Read]
) -> tuple[dict[str, Read], list[str]]:
    """Return what ``read`` makes of each name, and a sentence for each that it cannot read."""
    found, unreadable = {}, []
    for name in names:
        try:
            found[name] = read(name)
        except UserError as error:
            unreadable.append(str(error).replace(f"{paths.root()}/", ""))
    return found, unreadable


@contextmanager
def as_written(path: Path, command: object) -> Iterator[None]:
    """Say in a sentence that a file has other columns or values than it should.

    Raises:
        UserError: The file is not as it was written.
    """
    try:
        yield
    except UserError:  # says already what is wrong
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is not as it was written ({error!r}): delete it and run `{command}`"
        ) from error


def made_by_script() -> str:
    """Return what made the page: the script, and the commit if it is known."""
    commit = results.versions()["commit"]
    return "analysis/report.py" + (f", commit {commit}" if commit != "unknown" else "")
