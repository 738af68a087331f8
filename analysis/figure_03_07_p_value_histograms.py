"""Figures 3 and 7: histograms of the p-values of LOO, a panel for each experiment.

    python analysis/figure_03_07_p_value_histograms.py [--experiment NAME ...]

Reads   results/<experiment>/pairs/loo.nc       from analysis/p_values.py
Writes  results/figures/figure_03_p_value_histograms.png   experiments with SWA+DE-Init
        results/figures/figure_07_p_value_histograms.png   those with other randomness, if any

Bars are Student's t over seeds; the outline is the published statistic; the dashed line is what
Student's p-values would be if no pair had an effect. Experiments without the file are left out.
Takes about 2 s.
"""

from pathlib import Path

from bayestda.experiments import paths
from bayestda.experiments.analysis import main_all
from bayestda.experiments.figures import histograms, names, read_tables
from bayestda.experiments.grid import Experiment
from bayestda.plots import style


def analyse(experiments: list[Experiment]) -> list[Path]:
    """Draw all experiments that have tests of LOO."""
    chosen = read_tables.existing(experiments, lambda one: paths.pairs(one.name, "loo"))
    de_init = [one for one in chosen if one.randomness == "init"]
    other = [one for one in chosen if one.randomness != "init"]
    figures = (("figure_03", de_init, "DE-Init"), ("figure_07", other, "other kinds of randomness"))
    return [draw(number, group, kind) for number, group, kind in figures if group]


def draw(number: str, experiments: list[Experiment], kind: str) -> Path:
    """One figure of the experiments of one kind."""
    pairs = {names.title(one): read_tables.read_pairs(one, "loo") for one in experiments}
    figure = histograms.p_value_histograms(pairs, f"LOO p-values · {kind}")
    return style.save(paths.figure(None, f"{number}_p_value_histograms"), figure)


if __name__ == "__main__":
    main_all(__doc__, analyse)
