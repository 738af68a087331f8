"""The one exception that a person at the terminal is meant to read, and how it is shown."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend; the message says what is wrong, where, and how to mend it."""


def guarded(main: Callable[[], None]) -> None:
    """Call ``main``; a :class:`UserError` becomes one line on stderr and exit status 2."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        sys.exit(130)
