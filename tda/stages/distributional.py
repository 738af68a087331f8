"""What the scripts of ``tda_distributional_scripts/`` share: flags, a result that is made once."""

import shlex
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import xarray as xr

from tda import paths, store
from tda.analysis import report
from tda.errors import UserError, guarded

FEWEST = 4  # runs of which distributions can be compared


def run_script(
    doc: str, name: str, settings: dict, make: Callable[[int], xr.Dataset], *, runs: int
) -> None:
    """Parse the flags and make the samples, unless they are there with equal settings.

    Args:
        doc: the script's docstring, shown by ``--help``.
        name: of the experiment; the result is :func:`tda.paths.distributional` of it.
        settings: what the result depends on, besides the number of runs.
        make: from the number of runs to the samples.
        runs: the default number.
    """
    guarded(lambda: _run(doc, name, settings, make, runs))


def _run(doc: str, name: str, settings: dict, make: Callable[[int], xr.Dataset], runs: int) -> None:
    parser = ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=runs, help="runs; default: %(default)s")
    flags = parser.parse_args()
    if flags.runs < FEWEST:
        raise UserError(
            f"--runs {flags.runs} are too few to compare distributions: {FEWEST} or more"
        )
    path, wanted = paths.distributional(name), {**settings, "experiment": name, "runs": flags.runs}
    command = shlex.join(["python", f"tda_distributional_scripts/{name}.py", *sys.argv[1:]])
    if not store.is_done(path, wanted, command):
        start = time.perf_counter()
        samples = make(flags.runs)
        seconds = time.perf_counter() - start
        threads = sys.modules["torch"].get_num_threads()  # imported by what makes samples
        store.write_scores(path, samples, wanted, seconds=seconds, threads=threads, flags=command)
    print(path)


def analyse_script(doc: str, analyse: Callable[[], Iterable[Path]]) -> None:
    """Run an analysis of such samples, print what it wrote; errors as :func:`run_script`."""
    ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter).parse_args()

    guarded(lambda: report(analyse()))


def read(name: str) -> xr.Dataset:
    """The samples of an experiment.

    Raises:
        UserError: they are missing or damaged.
    """
    return store.open_scores(
        paths.distributional(name), f"python tda_distributional_scripts/{name}.py"
    )


def write_table(name: str, what: str, table: pd.DataFrame) -> Path:
    """Write a table of an experiment whole."""
    path = paths.table(f"distributional_{name}", what)
    content = table.to_csv(index=False, float_format="%.6g")
    store.write_whole(path, lambda file: file.write_text(content))
    return path
