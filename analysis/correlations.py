"""Do the methods agree? Correlations between their means, noise, p-values.

    python analysis/correlations.py [--experiment NAME ...]

Reads   results/<experiment>/scores/<method>/
Writes  results/<experiment>/correlations.csv

A row per pair of methods, statistic, kind (pearson, spearman) and scope (all_pairs: over all
train-test pairs; per_test: over training points, averaged over test points), with 95 % intervals
from a half-sample bootstrap over seeds, on the seeds that both methods have. Statistics over
seeds: mean, std, p (Student's t), and signal_to_noise, the signed mean/std, which is what the
released code's "p-value" matrices correlate. ``value``, ``low``, ``high`` are in the paper's
signs; ``aligned`` is the value with the sign at which positive means that both methods find the
same examples helpful (mean and signal_to_noise only, else the value itself).
Takes 12 s for 10 seeds, 30 x 900 pairs and eight methods.
"""

import tda.interruption  # noqa: F401

from pathlib import Path

import numpy as np
import pandas as pd

from tda import statistics
from tda.analysis import comparable_scores, main, methods, write_table
from tda.errors import UserError
from tda.experiments import Experiment, helpful_sign


def analyse(experiment: Experiment) -> list[Path]:
    """Write the table of one experiment."""
    scores = {
        method: statistics.run_means(dataset["score"])
        for method, dataset in comparable_scores(experiment, methods(experiment)).items()
    }
    table = statistics.correlations(scores)
    if table.empty:
        raise UserError(
            f"{experiment.name} has no two methods with two seeds in common (it has "
            f"{', '.join(scores)}): make more with the scripts in tda_{experiment.family}_scripts/"
        )
    return [write_table(experiment, "correlations", aligned(table))]


def aligned(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the column ``aligned`` after ``high``."""
    signs = table["method_a"].map(helpful_sign) * table["method_b"].map(helpful_sign)
    signed = table["statistic"].isin(statistics.SIGNED)
    values = table["value"] * np.where(signed, signs, 1)
    table.insert(list(table.columns).index("high") + 1, "aligned", values)
    return table


if __name__ == "__main__":
    main(__doc__, analyse)
