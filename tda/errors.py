"""The one exception that a person at the terminal is meant to read, and how it is shown."""

import sys
from collections.abc import Callable

INTERRUPTED = "interrupted: run the same command again to go on"


class UserError(Exception):
    """Something the user can mend; the message says what is wrong, where, and how to mend it."""


def guarded(main: Callable[[], None]) -> None:
    """Call ``main``; what a person can mend becomes one line on stderr.

    Raises:
        SystemExit: 2 after a :class:`UserError` or for want of memory, 130 when interrupted.
    """
    try:
        main()
    except UserError as error:
        _end(f"error: {error}", 2)
    except KeyboardInterrupt:
        _end(INTERRUPTED, 130)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        _end(
            "error: there is not enough memory: run the same command again with a smaller "
            "--memory_gb, --chunk or --jobs if it has them, or on a larger machine; what is "
            "finished is kept",
            2,
        )


def _out_of_memory(error: Exception) -> bool:
    """Whether there was no memory; torch says so of a CPU in words only."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def _end(message: str, status: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(status)
