"""What a person at the terminal sees of a script: its help, one line for an error, a status."""

import signal
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import clear_frames
from typing import Any

from bayestda.errors import UserError, out_of_memory

AddFlags = Callable[[ArgumentParser], None]
INTERRUPTED = "interrupted: run the same command again to go on"
NO_MEMORY = (
    "there is not enough memory: run the same command again with a smaller --memory_gb, --chunk or "
    "--jobs, or another --device, if it has them, or on a larger machine; what is finished is kept"
)
_SOON = 0.01  # seconds


def want_of_memory(error: BaseException | None) -> str | None:
    """Return the sentence for an error that comes from a want of memory; None for another."""
    if out_of_memory(error):
        return NO_MEMORY
    if isinstance(error, SystemError):  # Python's own, of C code that does not notice it
        return f"a call failed without saying why ({error}), as happens where {NO_MEMORY}"
    return None


def run_main(
    doc: str | None, work: Callable[[Namespace], None], add_flags: AddFlags | None = None
) -> None:
    """Parse the flags of a script, then do its work with one line for an error of the user.

    Args:
        doc: The script's docstring, shown by ``--help``.
        work: The script's work, given its flags. What it needs of torch is imported there, so that
            a help text and a wrong flag wait for no import.
        add_flags: A function that adds the script's flags.

    Raises:
        SystemExit: As :func:`guarded`; 0 after ``--help`` and 2 after a wrong flag.
    """
    parser = ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter)
    if add_flags:
        add_flags(parser)
    flags = parser.parse_args()
    guarded(lambda: work(flags))


def print_paths(written: Iterable[Path]) -> None:
    """Print files one by one, as they are written."""
    for path in written:
        print(path, flush=True)


def guarded(main: Callable[[], None]) -> None:
    """Call ``main`` and print what a person can mend as one line on stderr.

    Raises:
        SystemExit: 2 after a :class:`UserError` or for want of memory, 130 when interrupted.
    """
    try:
        with _interruptions_kept():
            main()
    except KeyboardInterrupt as error:
        _finalise(error)
        _end(INTERRUPTED, 130)
    except Exception as error:
        is_told = isinstance(error, UserError)
        if want := want_of_memory(error.__cause__ if is_told else error):
            _end(f"error: {want}", 2)
        if not is_told:
            raise
        _end(f"error: {error}", 2)


@contextmanager
def _interruptions_kept() -> Iterator[None]:
    """Raise Ctrl-C again that Python would only report, because it came in a finaliser."""
    before = sys.unraisablehook

    def hook(lost: Any) -> None:
        if lost.exc_type is KeyboardInterrupt:
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            signal.setitimer(signal.ITIMER_REAL, _SOON)
        else:
            before(lost)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _finalise(error: KeyboardInterrupt) -> None:
    """Release what was interrupted half-made, without what its finalisers report of that."""
    before, sys.unraisablehook = sys.unraisablehook, lambda _: None
    clear_frames(error.__traceback__)
    sys.unraisablehook = before


def _end(message: str, status: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(status)
