"""The gallery with a second method below LOO, for the same test images.

    python analysis/gallery.py [--experiment NAME ...] [--method NAME]

Reads   results/<experiment>/pairs/<method>.nc   from analysis/p_values.py
        data/<task>/
Writes  results/<experiment>/figures/gallery.png, or gallery_loo_<method>.png with --method

LOO chooses the pairs. Without --method this is `analysis/figures.py --figure gallery`.
Takes about 3 s for one experiment, 4 s with a second method.
"""

from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from bayestda.experiments.analysis import main
from bayestda.experiments.figures.catalogue import FIGURES, gallery, save
from bayestda.experiments.grid import Experiment


def analyse(experiment: Experiment, method: str) -> Iterator[Path]:
    """Draw one experiment."""
    yield from save(replace(FIGURES["gallery"], draw=partial(gallery, method=method)), experiment)


def add_flags(parser: ArgumentParser) -> None:
    """Add the gallery's own flag."""
    parser.add_argument("--method", default="loo", help="shown below LOO, for example influence")


if __name__ == "__main__":
    main(__doc__, analyse, add_flags)
