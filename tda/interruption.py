"""Ctrl-C is one line on stderr also while a script is still importing; scripts import this first.

What is computed and written is in :func:`tda.errors.guarded`, which ends in the same way.
"""

import os
import sys
from types import TracebackType

from tda.errors import INTERRUPTED


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    print(INTERRUPTED, file=sys.stderr, flush=True)
    os._exit(130)  # else Python ends itself by the signal, which not every parent takes for 130


sys.excepthook = _one_line
