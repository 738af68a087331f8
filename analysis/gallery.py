"""A gallery: test images of the most and least reliable pairs, and the training images behind them.

    python analysis/gallery.py [--experiment NAME ...] [--method NAME]

Reads   results/<experiment>/pairs/<method>.nc   from analysis/p_values.py
        data/<task>/
Writes  results/<experiment>/figures/gallery.png, or gallery_loo_<method>.png with --method

LOO chooses the pairs; a method of --method is shown below LOO for the same test images.
Takes about 3 s for one experiment, 4 s with a second method.
"""

from argparse import ArgumentParser
from pathlib import Path

import numpy as np

from bayestda.experiments import paths
from bayestda.experiments.analysis import main
from bayestda.experiments.data.images import Images, read_images
from bayestda.experiments.figures import exemplars, gallery, names, read_tables
from bayestda.experiments.grid import Experiment
from bayestda.plots import style

NOTE = (
    "Captions: label, number in the original data set, mean score ± standard error over "
    "n = {seeds} seeds, q-value (Benjamini-Hochberg over all pairs).\n"
    "Blue frame: by the sign of its mean score the training image helps; orange: it harms."
)
SPLITS = ("train", "test")
JPEG = " · JPEG re-encoded images"


def analyse(experiment: Experiment, method: str | None = None) -> list[Path]:
    """Draw one experiment: LOO, and a further method if one is asked for."""
    methods = ["loo"] if method in (None, "loo") else ["loo", str(method)]
    pairs = {name: read_tables.read_pairs(experiment, name) for name in methods}
    train, test = (images(experiment, split, pairs["loo"][split].values) for split in SPLITS)
    seeds = {str(int(dataset["n_seeds"])) for dataset in pairs.values()}
    figure = gallery.gallery(
        exemplars.gallery_rows(pairs, train, test),
        exemplars.COLUMNS,
        heading=names.title(experiment) + ("" if train.exact and test.exact else JPEG),
        note=NOTE.format(seeds="/".join(sorted(seeds))),
    )
    name = "gallery" if len(methods) == 1 else f"gallery_loo_{method}"
    return [style.save(paths.figure(experiment.name, name), figure)]


def images(experiment: Experiment, split: str, numbers: np.ndarray) -> Images:
    """The images that scores are about."""
    return read_images(paths.images(experiment.task, split), numbers)


def add_flags(parser: ArgumentParser) -> None:
    """The gallery's own flag."""
    parser.add_argument("--method", help="shown below LOO, for example influence; default: none")


if __name__ == "__main__":
    main(__doc__, analyse, add_flags)
