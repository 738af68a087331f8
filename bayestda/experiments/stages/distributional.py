"""What the scripts of ``tda_distributional_scripts/`` share: flags, a result that is made once.

Importing this file imports neither torch nor xarray.
"""

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.stages.cli import command_line
from bayestda.experiments.terminal import print_paths, run_main

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

FEWEST = 4  # runs of which distributions can be compared
FEWER = (1, 3, 10, 30, 100, 300)  # runs of which it is asked what they know


class Samples:
    """Samples over runs of one experiment of :mod:`bayestda.experiments.samples`."""

    def __init__(self, name: str, *, runs: int, retrained: int | None = None):
        """Take the experiment.

        Args:
            name: The experiment's module. It has ``make``, from the number of runs (and of
                retrained ones) to the samples, ``SETTINGS``, what these depend on beside numbers
                and data, and ``data``, which loads what is read, unless nothing is.
            runs: The default number of runs.
            retrained: The default number of retrained runs; None: there is no such flag.
        """
        self.name = name
        self.defaults = {"runs": runs} | ({} if retrained is None else {"retrained": retrained})

    def add_flags(self, parser: ArgumentParser) -> None:
        """Add ``--runs`` and, if there are any, ``--retrained``."""
        for flag, default in self.defaults.items():
            what = "runs" if flag == "runs" else f"{flag} runs"
            parser.add_argument(
                f"--{flag}", type=int, default=default, help=f"{what}; default: %(default)s"
            )

    def run(self, flags: Namespace) -> None:
        """Make the samples, on one thread, unless those of equal settings are there.

        Raises:
            UserError: Runs are too few, or a result has other settings.
        """
        counts = {flag: getattr(flags, flag) for flag in self.defaults}
        for flag, count in counts.items():
            if count < FEWEST:
                raise UserError(
                    f"--{flag} {count} are too few to compare distributions: {FEWEST} or more"
                )
        make_samples(self.name, counts)


def make_samples(name: str, counts: dict[str, int]) -> None:
    """Make the samples of an experiment, unless those of equal settings are there.

    Args:
        name: The experiment.
        counts: The numbers of runs, by flag.
    """
    from bayestda.experiments import results
    from bayestda.experiments.stages.workers import settle_process

    experiment = import_module(f"bayestda.experiments.samples.{name}")
    read = {"data_hash": experiment.data().hash} if hasattr(experiment, "data") else {}
    settings = {**experiment.SETTINGS, **read, "experiment": name, **counts}
    path, command = paths.distributional(name), command_line()
    if not results.is_done(path, settings, command):
        settle_process()
        start = time.perf_counter()
        samples = experiment.make(*counts.values())
        seconds = time.perf_counter() - start
        results.write_scores(path, samples, settings, seconds=seconds, flags=command)
    print(path)


def counts_up_to(total: int) -> list[int]:
    """Return numbers of runs of which it is asked what they know, up to all there are."""
    return sorted({count for count in FEWER if count < total} | {total})


def analyse_script(doc: str, analyse: Callable[[], Iterable[Path]]) -> None:
    """Run an analysis of such samples, and print what it wrote."""
    run_main(doc, lambda _flags: print_paths(analyse()))


def read(name: str) -> "xr.Dataset":
    """Read the samples of an experiment.

    Raises:
        UserError: They are missing or damaged.
    """
    from bayestda.experiments import results

    made_by = f"python tda_distributional_scripts/{name}.py"
    return results.open_scores(paths.distributional(name), made_by)


def write_table(name: str, what: str, table: "pd.DataFrame") -> Path:
    """Write a table of an experiment whole, and return its path."""
    from bayestda.experiments import results

    return results.write_table(f"distributional_{name}", what, table)
