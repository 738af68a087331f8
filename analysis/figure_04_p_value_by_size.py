"""Figure 4: mean p-value against training set size, one line a method.

    python analysis/figure_04_p_value_by_size.py [--experiment NAME ...]

Reads   results/<experiment>/p_values.csv       from analysis/p_values.py
Writes  results/figures/figure_04_p_value_by_size.png

A panel for each model, task and kind of randomness; all checkpoints averaged; vertical lines
are 95 % intervals over seeds. Experiments without the table are left out.
Takes about 2 s.
"""

from pathlib import Path

from bayestda.experiments import paths
from bayestda.experiments.analysis import main_all
from bayestda.experiments.figures import p_values, read_tables
from bayestda.experiments.grid import Experiment
from bayestda.plots import style


def analyse(experiments: list[Experiment]) -> list[Path]:
    """Draw all experiments that have p-values."""
    table = read_tables.p_value_table(experiments)
    panel = table["model"] + " · " + table["task"] + " · " + table["randomness"]
    table = table.assign(panel=panel)
    longest = table.groupby(["panel", "method", "num_train"])["num_checkpoints"].transform("max")
    figure = p_values.p_value_by_size(table[table["num_checkpoints"] == longest])
    return [style.save(paths.figure(None, "figure_04_p_value_by_size"), figure)]


if __name__ == "__main__":
    main_all(__doc__, analyse)
