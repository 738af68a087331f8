"""Printed numbers of Nguyen et al. 2023 beside the same numbers made in the released way, and ours.

    python analysis/published.py --experiment cnn2_mnist3_10pc

Reads   data/published/nguyen2023.json                 what the paper printed
        results/<experiment>_published/                the released way, run here, made by
            train_cnn.py --randomness published, then with the same flag
            tda_cnn_scripts/{ats,grad_dot,grad_cos}.py, influence.py --solver lissa,
            loo.py --variant published
        results/<experiment>/scores/                   ours, if all five methods are there
Writes  results/<experiment>/published.csv             a row per printed number; ``same``: rounds to
                                                       the printed digits
        results/<experiment>/published_ours.csv        what this project says of the five methods
        results/<experiment>/figures/published.png
Takes 10 s. `make published` makes all of it for experiment 1.
"""

from collections.abc import Iterator
from pathlib import Path

from bayestda.experiments import paths, published
from bayestda.experiments.analysis import main
from bayestda.experiments.figures import names
from bayestda.experiments.figures.published import printed_and_run
from bayestda.experiments.grid import Experiment
from bayestda.experiments.results import write_table
from bayestda.plots import style


def analyse(experiment: Experiment) -> Iterator[Path]:
    """Write the tables and the figure of one experiment."""
    table, ours = published.comparison(experiment), published.ours(experiment)
    yield write_table(experiment, "published", table)
    if len(ours):
        yield write_table(experiment, "published_ours", ours)
    figure = printed_and_run(table, ours, names.title(experiment))
    yield style.save(paths.figure(experiment.name, "published"), figure)
    for quantity, rows in table.groupby(table["quantity"].str.split(" of ").str[0], sort=False):
        print(f"{quantity}: {int(rows['same'].sum())} of {len(rows)} as printed")


if __name__ == "__main__":
    main(__doc__, analyse)
