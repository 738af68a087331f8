"""The command line of the stage scripts: flags, one line for each error, exit status.

Importing this file does not import torch. A command is parsed and checked first; then its stage
is imported, with all that computes.
"""

import shlex
import sys
from argparse import ArgumentParser, Namespace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.flags import count, size
from bayestda.experiments.grid import Run
from bayestda.experiments.terminal import run_main

if TYPE_CHECKING:
    from bayestda.experiments.stages.options import Options


class Script(Protocol):
    """A script's flags and work."""

    def add_flags(self, parser: ArgumentParser) -> None:
        """Add the flags that the script uses, and no other."""

    def run(self, flags: Namespace) -> None:
        """Do the work.

        Raises:
            UserError: A flag is wrong, or what the work needs is missing.
        """


def run_script(doc: str | None, script: Script) -> None:
    """Parse the flags, do the work, and end with 0, 2 (user error) or 130 (Ctrl-C).

    Args:
        doc: The script's docstring, shown by ``--help``.
        script: What the script does.
    """
    run_main(doc, script.run, script.add_flags)


class Command:
    """A stage as its script knows it: subclasses add the flags that the stage uses.

    Attributes:
        stage: Where the stage's class is, as ``module:Class`` in this package. It is imported when
            all flags are right.
        stacks: Whether members are trained together, so that ``--chunk`` has an effect.
    """

    stage = ""
    stacks = False

    def __init__(self, system: Any):
        """Take the class of the system that the script runs."""
        self.system = system

    def add_flags(self, parser: ArgumentParser) -> None:
        """Add the flags of system, machine and stage."""
        self.system.add_flags(parser)
        self.add_run_flags(parser)
        _add_machine(parser, stacks=self.stacks)
        self.add_own_flags(parser)

    def add_run_flags(self, parser: ArgumentParser) -> None:
        """Add flags that choose among runs beyond those of the system."""

    def add_own_flags(self, parser: ArgumentParser) -> None:
        """Add the stage's own flags."""

    def resolved(self, _system: Any, _flags: Namespace) -> dict[str, Any]:
        """Return the stage's own flags by name, defaults of the task among them.

        Raises:
            UserError: A flag would have no effect, or does not fit the task.
        """
        return {}

    def runs(self, system: Any, flags: Namespace) -> list[Run]:
        """Return the runs that are asked for."""
        return system.runs_of(flags)

    def place(self, flags: Namespace) -> int | None:
        """Return the number of the only run, by which it gets one of several GPUs."""
        return self.system.place(flags)

    def run(self, flags: Namespace) -> None:
        """Compute what is missing of the runs that are asked for."""
        system = self.system.of(flags)
        runs, method = self.runs(system, flags), self.resolved(system, flags)
        from bayestda.experiments.stages.context import choose_device
        from bayestda.experiments.stages.runner import run_stage

        device = choose_device(flags.device, self.place(flags))
        if system.tf32 and not device.startswith("cuda"):
            raise UserError(f"--tf32 needs an NVIDIA GPU, and this runs on {device}: leave it out")
        options = self._options(flags, device, method)
        run_stage(load(self.stage)(), command_line(), system, runs, options)

    def _options(self, flags: Namespace, device: str, method: dict[str, Any]) -> "Options":
        from bayestda.experiments.stages.options import Options

        return Options(
            device=device,
            jobs=flags.jobs if device == "cpu" else 1,  # a GPU takes many members in one process
            memory_gb=flags.memory_gb,
            chunk=flags.chunk if self.stacks else None,
            method=tuple(
                (name, tuple(value) if isinstance(value, list) else value)
                for name, value in sorted(method.items())
            ),
        )


def load(place: str) -> Any:
    """Import what a dotted name stands for.

    Args:
        place: ``module:name``, the module in this package.
    """
    module, _, name = place.partition(":")
    return getattr(import_module(f"{__package__}.{module}"), name)


def command_line() -> str:
    """Return the command that is running, as the documentation writes it."""
    path = Path(sys.argv[0]).resolve()
    inside = path.is_relative_to(paths.REPOSITORY)
    script = str(path.relative_to(paths.REPOSITORY) if inside else path)
    return shlex.join(["python", script, *sys.argv[1:]])


def _add_machine(parser: ArgumentParser, *, stacks: bool) -> None:
    parser.add_argument(
        "--device", help="default: cuda:{seed mod GPUs} of one run, cuda:0 of several, else cpu"
    )
    parser.add_argument("--jobs", type=count, help="worker processes on a CPU; default: all cores")
    parser.add_argument(
        "--memory_gb", type=size,
        help="bound on memory; default: .6 of what is free, on a GPU .6 of all",
    )  # fmt: skip
    if stacks:
        parser.add_argument(
            "--chunk", type=count, help="members trained together; default: what fits"
        )
