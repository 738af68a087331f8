"""Write a page to look at: everything about an experiment in one HTML file without network.

    python analysis/report.py [--experiment NAME ...] [--max_mb 9]

Reads   results/<experiment>/, data/<task>/
Writes  results/<experiment>/report.html

NAME is an image experiment, such as cnn2_mnist3_10pc, or final-model-only attribution, such as
fimo_energy. Tables and methods that have not been made yet, or cannot be read, are left out, and
the page says how to make them. It also names tables that are of other runs than the scores. If
scores would take more than --max_mb megabytes, single scores are kept for the most extreme training
examples only. Then test examples are left out. The page says so.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.grid import Experiment
from bayestda.experiments.pages import final, images
from bayestda.experiments.results import experiments_with_scores
from bayestda.experiments.terminal import print_paths, run_main
from bayestda.page import rendering


def main() -> None:
    """Write the page of every experiment that is asked for, or that has results."""

    def work(flags: Namespace) -> None:
        print_paths(written(flags.experiment, flags.max_mb))

    run_main(__doc__, work, add_flags)


def add_flags(parser: ArgumentParser) -> None:
    """Add ``--experiment`` and ``--max_mb``."""
    parser.add_argument("--experiment", nargs="+", metavar="NAME", help="default: all with results")
    parser.add_argument(
        "--max_mb", type=float, default=rendering.MAX_MB,
        help="room for examples and scores, in 10^6 bytes; default: %(default)g",
    )  # fmt: skip


def written(names: list[str] | None, max_mb: float) -> Iterator[Path]:
    """Write the pages, and yield each when it is written.

    Raises:
        UserError: There is no room, or, after all others, some experiments have no results.
    """
    if not max_mb > 0:
        raise UserError(f"--max_mb {max_mb:g} leaves no room: give some megabytes, for example 9")
    errors = []
    for name in names or with_results():
        try:
            found = (
                final.report_of(name)
                if final.is_final(name)
                else images.report_of(Experiment.parse(name))
            )
            yield rendering.write(paths.results(name) / "report.html", found, max_mb)
        except UserError as error:
            errors.append(str(error))
    if errors:
        raise UserError("\nerror: ".join(errors))


def with_results() -> list[str]:
    """Return the names of all experiments that a page can be made of.

    Raises:
        UserError: There are none.
    """
    found = [experiment.name for experiment in experiments_with_scores()] + final.with_results()
    if not found:
        raise UserError(f"{paths.root() / 'results'} has no scores yet: run `make reproduce`")
    return found


if __name__ == "__main__":
    main()
