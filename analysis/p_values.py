"""Are the scores different from zero? Tests over seeds, for 1 to 5 checkpoints.

    python analysis/p_values.py [--experiment NAME ...]

Reads   results/<experiment>/scores/<method>/
Writes  results/<experiment>/p_values.csv     a row per method and number of checkpoints: the last
                                              ones of each run, averaged before the test
        results/<experiment>/pairs/<method>.nc   the same per train-test pair, all checkpoints

p is the p-value of Student's one-sample t-test over seeds. q is its false discovery rate over all
pairs. Columns expected_... say what a statistic would be on average if no pair had an effect.
published_p is the released code's 2 normal.sf(|mean/std|). mean_pairwise_std, which only LOO has,
is the paper's standard deviation over all pairs of a retrained and a base model, both of single
checkpoints. variance.csv (all_pairs_published) compares it with that of single scores. The columns
are the metrics of this table in bayestda/experiments/metrics.py.
Takes 9 s for 10 seeds, 30 x 900 pairs and eight methods.
"""

import json
from pathlib import Path

import pandas as pd
import xarray as xr

from bayestda import statistics
from bayestda.experiments import metrics, paths, results
from bayestda.experiments.analysis import independent_scores, main, methods
from bayestda.experiments.grid import Experiment
from bayestda.experiments.results import write_table
from bayestda.experiments.sample import Sample, per_pair


def analyse(experiment: Experiment) -> list[Path]:
    """Write the tables of one experiment."""
    rows, written = [], []
    for method in methods(experiment):
        dataset = independent_scores(experiment, method)
        for count in range(1, dataset.sizes["checkpoint"] + 1):
            last = dataset.isel(checkpoint=slice(-count, None))
            rows.append({"method": method, "num_checkpoints": count, **summary(last)})
        written.append(write_pairs(experiment, method, dataset))
    return [write_table(experiment, "p_values", pd.DataFrame(rows)), *written]


def summary(dataset: xr.Dataset) -> dict[str, float]:
    """Compute all metrics over all pairs, for the checkpoints of the data set."""
    sample = Sample(dataset["score"], test_loss=dataset.get("test_loss"))
    row: dict[str, float] = {
        "n_seeds": sample.runs.sizes["seed"],
        "n_pairs": sample.pairs["p"].size,
    }
    for metric in metrics.of_table("p_values"):
        row |= metrics.cells(metric, sample)
    return row


def write_pairs(experiment: Experiment, method: str, dataset: xr.Dataset) -> Path:
    """Write the statistics of each pair, with the settings of the scores."""
    path = paths.pairs(experiment.name, method)
    settings = {
        "scores": json.loads(dataset.attrs["settings"]),
        "method": method,
        "seeds": [str(seed) for seed in dataset["seed"].values],
        "checkpoints": dataset["checkpoint"].values.tolist(),
    }
    results.write_scores(path, per_pair(statistics.run_means(dataset["score"])), settings)
    return path


if __name__ == "__main__":
    main(__doc__, analyse)
