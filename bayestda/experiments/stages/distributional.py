"""What the scripts of ``tda_distributional_scripts/`` share: flags, a result that is made once."""

import shlex
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from bayestda.errors import UserError
from bayestda.experiments import paths, results
from bayestda.experiments.analysis import report
from bayestda.experiments.terminal import guarded

FEWEST = 4  # runs of which distributions can be compared
FEWER = (1, 3, 10, 30, 100, 300)  # runs of which it is asked what they know


def run_script(
    doc: str,
    name: str,
    settings: dict,
    make: Callable[..., xr.Dataset],
    *,
    runs: int,
    retrained: int | None = None,
    data: Callable[[], Any] | None = None,
) -> None:
    """Parse the flags; make the samples, on one thread, unless those of equal settings are there.

    Args:
        doc: the script's docstring, shown by ``--help``.
        name: of the experiment; the result is :func:`bayestda.experiments.paths.distributional` of
        it. settings: what the result depends on, besides the number of runs and the data.
        make: from the number of runs (and of retrained ones) to the samples.
        runs: the default number.
        retrained: likewise of ``--retrained``; None: there is no such flag.
        data: loads what is read, with its ``hash``; None: nothing is read.
    """

    def run() -> None:
        counts = _counts(doc, runs, retrained)
        own = {"data_hash": data().hash} if data else {}
        _run(name, {**settings, **own, "experiment": name, **counts}, make, list(counts.values()))

    guarded(run)


def _counts(doc: str, runs: int, retrained: int | None) -> dict[str, int]:
    """The numbers of runs that are asked for, by name."""
    parser = ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=runs, help="runs; default: %(default)s")
    if retrained is not None:
        parser.add_argument(
            "--retrained", type=int, default=retrained, help="retrained runs; default: %(default)s"
        )
    counts = vars(parser.parse_args())
    for flag, count in counts.items():
        if count < FEWEST:
            raise UserError(
                f"--{flag} {count} are too few to compare distributions: {FEWEST} or more"
            )
    return counts


def _run(name: str, settings: dict, make: Callable[..., xr.Dataset], counts: list[int]) -> None:
    from bayestda.experiments.stages.runner import (
        settle_process,  # torch, which analyses start without
    )

    path = paths.distributional(name)
    command = shlex.join(["python", f"tda_distributional_scripts/{name}.py", *sys.argv[1:]])
    if not results.is_done(path, settings, command):
        settle_process()
        start = time.perf_counter()
        samples = make(*counts)
        seconds = time.perf_counter() - start
        results.write_scores(path, samples, settings, seconds=seconds, flags=command)
    print(path)


def counts_up_to(total: int) -> list[int]:
    """Numbers of runs of which it is asked what they know, up to all there are."""
    return sorted({count for count in FEWER if count < total} | {total})


def analyse_script(doc: str, analyse: Callable[[], Iterable[Path]]) -> None:
    """Run an analysis of such samples, print what it wrote; errors as :func:`run_script`."""
    ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter).parse_args()

    guarded(lambda: report(analyse()))


def read(name: str) -> xr.Dataset:
    """The samples of an experiment.

    Raises:
        UserError: they are missing or damaged.
    """
    return results.open_scores(
        paths.distributional(name), f"python tda_distributional_scripts/{name}.py"
    )


def write_table(name: str, what: str, table: pd.DataFrame) -> Path:
    """Write a table of an experiment whole."""
    return results.write_csv(paths.table(f"distributional_{name}", what), table)
