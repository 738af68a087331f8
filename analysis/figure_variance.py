"""Where the variance of each method's scores comes from, with intervals.

    python analysis/figure_variance.py [--experiment NAME ...]

Reads   results/<experiment>/variance.csv       from analysis/variance.py
Writes  results/<experiment>/figures/variance.png

Takes about 2 s.
"""

from pathlib import Path

from bayestda.experiments import paths
from bayestda.experiments.analysis import main
from bayestda.experiments.figures import estimates, from_tables, names, read_tables
from bayestda.experiments.grid import Experiment
from bayestda.plots import style

NOTE = (
    "Dots: share of the variance of one score (one run, one checkpoint), summed over all pairs. "
    "Lines: 95 % jackknife interval. Estimates are unbiased and may be negative."
)


def analyse(experiment: Experiment) -> list[Path]:
    """Draw one experiment."""
    table = from_tables.variance_rows(
        experiment.randomness, read_tables.read_table(experiment, "variance")
    )
    runs = "/".join(str(n) for n in sorted(table["n_seeds"].unique()))
    figure = estimates.estimates(
        table.assign(panel=f"n = {runs} runs, {table['n_pairs'].max():,} pairs"),
        heading=names.title(experiment),
        quantity="share of variance",
        limits=(0, 1),
        note=NOTE,
    )
    return [style.save(paths.figure(experiment.name, "variance"), figure)]


if __name__ == "__main__":
    main(__doc__, analyse)
