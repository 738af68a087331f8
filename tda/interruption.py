"""Ctrl-C, and want of memory, are one line on stderr also while a script is still importing.

Scripts import this first. What is computed and written is in :func:`tda.errors.guarded`, which ends
in the same way.
"""

import os
import sys
from types import TracebackType

from tda.errors import INTERRUPTED, NO_MEMORY, out_of_memory


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        _end(INTERRUPTED, 130)  # else Python ends itself by the signal, which few take for 130
    if out_of_memory(error):
        _end(f"error: {NO_MEMORY}", 2)
    sys.__excepthook__(kind, error, trace)


def _end(message: str, status: int) -> None:
    print(message, file=sys.stderr, flush=True)
    os._exit(status)


sys.excepthook = _one_line
