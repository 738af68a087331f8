"""How far each method's scores can be trusted, and whether they explain their own model.

    python analysis/figure_reliability.py [--experiment NAME ...]

Reads   results/<experiment>/reliability.csv    from analysis/reliability.py
Writes  results/<experiment>/figures/reliability.png

Left: how well the seeds agree with each other, and the ceiling which that sets to any
correlation. Right: correlations with LOO, with the sign at which positive means agreement.
Takes about 2 s.
"""

from pathlib import Path

from bayestda.experiments import paths
from bayestda.experiments.analysis import main
from bayestda.experiments.figures import estimates, from_tables, names, read_tables
from bayestda.experiments.grid import Experiment
from bayestda.plots import style

NOTE = (
    "Pearson over all train-test pairs; lines: 95 % jackknife interval over seeds. With LOO: "
    "positive = the same examples are found helpful."
)


def analyse(experiment: Experiment) -> list[Path]:
    """Draw one experiment."""
    table = read_tables.read_table(experiment, "reliability")
    table = table[table["scope"] == "all_pairs"]
    runs = "/".join(str(n) for n in sorted(table["n_seeds"].unique()))
    heading = f"{names.title(experiment)} · n = {runs} seeds"
    figure = estimates.estimates(
        from_tables.reliability_rows(table), heading, "correlation", (0, 1), NOTE
    )
    return [style.save(paths.figure(experiment.name, "reliability"), figure)]


if __name__ == "__main__":
    main(__doc__, analyse)
