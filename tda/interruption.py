"""Ctrl-C, and want of memory, are one line on stderr also while a script is still importing.

Scripts import this first. What is computed and written is in :func:`tda.errors.guarded`, which ends
in the same way.
"""

import multiprocessing
import os
import signal
import sys
from types import TracebackType

from tda.errors import end_at_once, want_of_memory


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        end_at_once()  # else Python ends itself by the signal, which few take for 130
    if want := want_of_memory(error):
        print(f"error: {want}", file=sys.stderr, flush=True)
        os._exit(2)
    sys.__excepthook__(kind, error, trace)


sys.excepthook = _one_line
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    is_worker = multiprocessing.parent_process() is not None  # whose parent says it
    # No exception: libraries that are being imported make others of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN if is_worker else end_at_once)
