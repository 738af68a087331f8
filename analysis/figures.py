"""Figures of the image experiments, from their tables.

    python analysis/figures.py [--figure NAME ...] [--experiment NAME ...]

Reads   results/<experiment>/<table>.csv, results/<experiment>/pairs/loo.nc; two figures read scores
        and images as well
Writes  results/<experiment>/figures/<figure>.png; figures that compare experiments:
        results/figures/<figure>.png

Correlations are called as in the paper: its experiments 1-10 are figure_08_correlations to
figure_17_correlations, and experiment 3 is also figure_05_correlations. Experiments that lack
what a comparing figure draws are left out, and are named on stderr.
Takes 2 to 3.5 s for one figure, 6 s for all, of one experiment with 10 seeds and 30 x 900 pairs.

The figures, as listed in bayestda/experiments/figures/catalogue.py:
"""

from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

from bayestda.experiments.analysis import each, main_all
from bayestda.experiments.figures.catalogue import FIGURES, save
from bayestda.experiments.grid import Experiment


def analyse(experiments: list[Experiment], figure: list[str] | None) -> Iterator[Path]:
    """Draw the figures that are asked for, or all."""
    for name in figure or FIGURES:
        subjects = [experiments] if FIGURES[name].comparing else experiments
        yield from each(lambda subject, name=name: save(FIGURES[name], subject), subjects)


def add_flags(parser: ArgumentParser) -> None:
    """Add the flag that chooses figures."""
    parser.add_argument(
        "--figure", nargs="+", choices=tuple(FIGURES), metavar="NAME", help="default: all"
    )


def described() -> str:
    """Return a line of help for each figure, from its function's docstring."""
    docs = {name: (figure.draw.__doc__ or "").split("\n")[0] for name, figure in FIGURES.items()}
    return "\n".join(f"    {name:24}{doc}" for name, doc in docs.items())


if __name__ == "__main__":
    main_all(f"{__doc__}\n{described()}", analyse, add_flags)
