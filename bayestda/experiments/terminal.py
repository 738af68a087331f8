"""What a person at the terminal sees of an error: one line, and an exit status."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import clear_frames
from typing import Any

from bayestda.errors import UserError, out_of_memory

INTERRUPTED = "interrupted: run the same command again to go on"
NO_MEMORY = (
    "there is not enough memory: run the same command again with a smaller --memory_gb, --chunk or "
    "--jobs, or another --device, if it has them, or on a larger machine; what is finished is kept"
)
_SOON = 0.01  # seconds


def want_of_memory(error: BaseException | None) -> str | None:
    """The sentence to say of an error that comes from a want of memory; None: of another."""
    if out_of_memory(error):
        return NO_MEMORY
    if isinstance(error, SystemError):  # Python's own, of C code that does not notice it
        return f"a call failed without saying why ({error}), as happens where {NO_MEMORY}"
    return None


def guarded(main: Callable[[], None]) -> None:
    """Call ``main``; what a person can mend becomes one line on stderr.

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
    """Ctrl-C while Python calls a finaliser would be reported and lost; it is raised again."""
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
    """Let go of what was interrupted half-made: what its finalisers say of that, nobody needs."""
    before, sys.unraisablehook = sys.unraisablehook, lambda _: None
    clear_frames(error.__traceback__)
    sys.unraisablehook = before


def _end(message: str, status: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(status)
