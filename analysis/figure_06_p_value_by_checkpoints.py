"""Figure 6: mean p-value of LOO against the number of checkpoints averaged in each run.

    python analysis/figure_06_p_value_by_checkpoints.py [--experiment NAME ...]

Reads   results/<experiment>/p_values.csv       from analysis/p_values.py
Writes  results/figures/figure_06_p_value_by_checkpoints.png

A panel for each model and task, a line for each training set size and kind of randomness; vertical
lines are 95 % intervals over seeds. Experiments without the table are left out.
Takes about 2 s.
"""

from pathlib import Path

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.analysis import main_all
from bayestda.experiments.figures import p_values, read_tables
from bayestda.experiments.grid import Experiment
from bayestda.plots import style


def analyse(experiments: list[Experiment]) -> list[Path]:
    """Draw all experiments that have p-values of LOO."""
    table = read_tables.p_value_table(experiments)
    table = table[table["method"] == "loo"]
    if table.empty:
        command = read_tables.made_by(experiments[0], "p_values")
        raise UserError(f"no p_values.csv has a row of LOO: make LOO scores, then run `{command}`")
    table = table.assign(panel=table["model"] + " · " + table["task"])
    figure = p_values.p_value_by_checkpoints(table)
    return [style.save(paths.figure(None, "figure_06_p_value_by_checkpoints"), figure)]


if __name__ == "__main__":
    main_all(__doc__, analyse)
