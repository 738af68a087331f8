"""A process that reads files: what ends it or keeps it busy is seen from outside."""

import resource
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from forks import SERVER

from bayestda.errors import UserError

CPU_SECONDS = 20  # for one file; what is busy as long hangs
MEMORY = 3 * 2**30  # bytes of address space, which no damaged file may fill
PATIENCE = 600  # seconds, on a machine with other work


class Reader:
    """Calls a function with the path of a file of given content, in a process of its own.

    Args:
        read: a function of a module, from the path to anything; ``UserError`` is a refusal.
        path: where the content is put.

    Attributes:
        counts: of outcomes: ``read``, ``refused``.
    """

    def __init__(self, read: Callable[[Path], object], path: Path):
        self.read, self.path, self.counts = read, path, Counter[str]()
        self._start()

    def _start(self) -> None:
        self._ours, theirs = SERVER.Pipe()
        self._process = SERVER.Process(
            target=_serve, args=(self.read, self.path, theirs), daemon=True
        )
        self._process.start()
        theirs.close()

    def outcome(self, content: bytes) -> str:
        """``read``, ``refused``, or what went wrong."""
        self._ours.send_bytes(content)
        try:
            found = self._ours.recv() if self._ours.poll(PATIENCE) else "hangs"
        except EOFError:
            self._process.join()
            found = f"the process ended with status {self._process.exitcode}"
        self.counts[found if found in ("read", "refused") else "failed"] += 1
        if found not in ("read", "refused"):
            self.close()
            self._start()
        return found

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def _serve(read: Callable, path: Path, pipe) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        path.write_bytes(pipe.recv_bytes())
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + CPU_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        pipe.send(_outcome(read, path))


def _outcome(read: Callable, path: Path) -> str:
    try:
        read(path)
    except UserError as error:
        return "refused" if "\n" not in str(error) else f"more than a line: {error}"
    except Exception:  # what a person would see as a traceback
        return traceback.format_exc()
    return "read"
