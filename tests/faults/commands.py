"""Commands as a user gives them, in processes that can be killed, hindered and interrupted."""

import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from forks import SERVER

from bayestda.experiments import paths

PATIENCE = 900  # seconds; only a process that hangs takes as long


@dataclass(frozen=True)
class Command:
    """A script with its flags.

    Attributes:
        name: of the stage.
        script: path from the repository's folder; "": only ``before``.
        flags: of the command line.
        before: functions that the process calls first.
    """

    name: str
    script: str
    flags: tuple = ()
    before: tuple[Callable[[], object], ...] = ()

    def after(self, *prepared: Callable[[], object]) -> "Command":
        """The same, with something done to its process before."""
        return Command(self.name, self.script, self.flags, (*self.before, *prepared))


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status, negative after a signal, and what it said."""

    status: int
    out: str
    err: str
    seconds: float

    @property
    def last_line(self) -> str:
        """Of stderr, without a progress bar that it may begin with."""
        lines = [line for line in self.err.replace("\r", "\n").splitlines() if line.strip()]
        return lines[-1] if lines else ""


class Running:
    """A command that has begun."""

    def __init__(self, command: Command, root: Path, log: Path):
        log.mkdir(parents=True, exist_ok=True)
        self.log = log
        ours, theirs = SERVER.Pipe()
        self.process = SERVER.Process(target=_work, args=(command, root, log, theirs))
        self.process.start()
        assert ours.poll(PATIENCE), "the process has not begun"
        ours.recv()
        self.begun = time.perf_counter()

    def signalled(self, number: int, after: float) -> Ended:
        """Send a signal some seconds after the beginning, and wait for the end."""
        time.sleep(max(0.0, self.begun + after - time.perf_counter()))
        with suppress(ProcessLookupError):  # it has ended before
            os.killpg(self.process.pid, number)
        return self.ended()

    def ended(self) -> Ended:
        """Wait for the end."""
        self.process.join(PATIENCE)
        seconds = time.perf_counter() - self.begun
        hangs = self.process.exitcode is None
        if hangs:
            self.process.kill()
        said = {name: (self.log / name).read_text() for name in ("out", "err")}
        assert not hangs, f"hangs: {said}"
        return Ended(self.process.exitcode, said["out"], said["err"], seconds)


def run(command: Command, root: Path, log: Path) -> Ended:
    """Run a command to its end."""
    return Running(command, root, log).ended()


def _work(command: Command, root: Path, log: Path, begun) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(log / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.environ["TDA_ROOT"] = str(root)
    os.chdir(log)
    for prepare in command.before:
        prepare()
    sys.argv = [str(paths.REPOSITORY / command.script), *map(str, command.flags)]
    begun.send("begun")
    if command.script:
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except (Exception, KeyboardInterrupt):  # as Python itself would end
            sys.excepthook(*sys.exc_info())
            os._exit(1)
