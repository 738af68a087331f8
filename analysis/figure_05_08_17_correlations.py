"""Figures 5 and 8 to 17: correlations between the methods, as heat maps.

    python analysis/figure_05_08_17_correlations.py [--experiment NAME ...]

Reads   results/<experiment>/correlations.csv   from analysis/correlations.py
Writes  results/<experiment>/figures/figure_<NN>_correlations.png   NN as in the paper
        results/<experiment>/figures/correlations.png               experiments it does not have
        results/<experiment>/figures/correlations_of_variants.png   if there are variants

Pearson and Spearman correlations, over all train-test pairs, of means, standard deviations and
p-values over seeds, with 95 % intervals. Experiments 1-10 are figures 8-17; 3 is also figure 5.
Takes 2.5 s for one experiment.
"""

from pathlib import Path

import pandas as pd

from bayestda.experiments import paths
from bayestda.experiments.analysis import main
from bayestda.experiments.figures import correlations, names, read_tables
from bayestda.experiments.grid import METHODS, Experiment
from bayestda.plots import style


def analyse(experiment: Experiment) -> list[Path]:
    """Draw one experiment."""
    table = read_tables.read_table(experiment, "correlations")
    table = table[table["scope"] == "all_pairs"]
    of_paper = table[table["method_a"].isin(METHODS) & table["method_b"].isin(METHODS)]
    names = correlations.figure_names(experiment.name) if len(of_paper) else []
    written = [draw(experiment, of_paper, name) for name in names]
    if len(of_paper) < len(table):
        written.append(draw(experiment, table, "correlations_of_variants"))
    return written


def draw(experiment: Experiment, table: pd.DataFrame, name: str) -> Path:
    """Write one figure."""
    figure = correlations.correlation_maps(table, names.title(experiment))
    return style.save(paths.figure(experiment.name, name), figure)


if __name__ == "__main__":
    main(__doc__, analyse)
