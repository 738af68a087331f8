"""Where the variance of each method's scores comes from, with intervals.

    python analysis/figure_variance.py [--experiment NAME ...]

Reads   results/<experiment>/variance.csv       from analysis/variance.py
Writes  results/<experiment>/figures/variance.png

Takes about 2 s.
"""

import tda.interruption  # noqa: F401

from pathlib import Path

import pandas as pd

from tda import paths
from tda.analysis import main
from tda.experiments import Experiment
from tda.figures import estimates, sources, style

SEED = {
    "init": "seed\n(initialisation\nand order)",
    "batch": "seed\n(order)",
    "init_only": "seed\n(initialisation)",
}
COMPONENTS = {
    "init": "initialisation",
    "order": "order",
    "interaction": "interaction",
    "epoch": "epoch,\ncommon to runs",
    "seed_x_epoch": "seed × epoch",
    "run_x_epoch": "run × epoch",
}
NOTE = (
    "Dots: share of the variance of one score (one run, one checkpoint), summed over all pairs. "
    "Lines: 95 % jackknife interval. Estimates are unbiased and may be negative."
)


def analyse(experiment: Experiment) -> list[Path]:
    """Draw one experiment."""
    table = components(experiment, sources.read_table(experiment, "variance"))
    runs = "/".join(str(n) for n in sorted(table["n_seeds"].unique()))
    figure = estimates.estimates(
        table.assign(panel=f"n = {runs} runs, {table['n_pairs'].max():,} pairs"),
        heading=style.title(experiment),
        quantity="share of variance",
        limits=(0, 1),
        note=NOTE,
    )
    return [style.save(paths.figure(experiment.name, "variance"), figure)]


def components(experiment: Experiment, table: pd.DataFrame) -> pd.DataFrame:
    """Rows that are shares of one whole, with their components in words."""
    names = {"seed": SEED.get(experiment.randomness), **COMPONENTS}
    category = table["component"].map(names)
    return table.assign(category=category, value=table["share"])[category.notna()]


if __name__ == "__main__":
    main(__doc__, analyse)
