"""Where the variance of each method's scores comes from, with intervals.

    python analysis/figure_variance.py [--experiment NAME ...]

Reads   results/<experiment>/variance.csv       from analysis/variance.py
Writes  results/<experiment>/figures/variance.png

Takes about 2 s.
"""

import tda.interruption  # noqa: F401

from pathlib import Path

from tda import paths
from tda.analysis import main
from tda.experiments import Experiment
from tda.figures import estimates, rows, sources, style

NOTE = (
    "Dots: share of the variance of one score (one run, one checkpoint), summed over all pairs. "
    "Lines: 95 % jackknife interval. Estimates are unbiased and may be negative."
)


def analyse(experiment: Experiment) -> list[Path]:
    """Draw one experiment."""
    table = rows.variance_rows(experiment.randomness, sources.read_table(experiment, "variance"))
    runs = "/".join(str(n) for n in sorted(table["n_seeds"].unique()))
    figure = estimates.estimates(
        table.assign(panel=f"n = {runs} runs, {table['n_pairs'].max():,} pairs"),
        heading=style.title(experiment),
        quantity="share of variance",
        limits=(0, 1),
        note=NOTE,
    )
    return [style.save(paths.figure(experiment.name, "variance"), figure)]


if __name__ == "__main__":
    main(__doc__, analyse)
