"""Are the scores different from zero? Tests over seeds, for 1 to 5 checkpoints.

    python analysis/p_values.py [--experiment NAME ...]

Reads   results/<experiment>/scores/<method>/
Writes  results/<experiment>/p_values.csv     a row per method and number of checkpoints: the last
                                              ones of each run, averaged before the test
        results/<experiment>/pairs/<method>.nc   the same per train-test pair, all checkpoints

p is Student's one-sample t over seeds, q its false discovery rate over all pairs. Beside each
statistic stands what it would be on average if no pair had an effect (expected_...). published_p
is the released code's 2 normal.sf(|mean/std|). mean_pairwise_std (LOO only) is the paper's
standard deviation over all pairs of a retrained and a base model, both of single checkpoints;
variance.csv (all_pairs_published) sets it against that of single scores.
Takes 9 s for 10 seeds, 30 x 900 pairs and eight methods.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from bayestda import statistics
from bayestda.experiments import paths, results
from bayestda.experiments.analysis import independent_scores, main, methods, write_table
from bayestda.experiments.grid import Experiment
from bayestda.statistics import significance


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
    """Statistics over all pairs, for the checkpoints of the data set."""
    runs = statistics.run_means(dataset["score"])
    pairs = per_pair(runs)
    num_seeds = runs.sizes["seed"]
    interval = statistics.mean_p_interval(runs)
    return {
        "n_seeds": num_seeds,
        "n_pairs": pairs["p"].size,
        "mean_p": float(pairs["p"].mean()),
        "mean_p_low": float(interval.low),
        "mean_p_high": float(interval.high),
        "expected_mean_p": 0.5,
        "share_p_below_05": float((pairs["p"] < significance.LEVEL).mean()),
        "share_q_below_05": float((pairs["q"] < significance.LEVEL).mean()),
        "sign_agreement": float(pairs["sign_agreement"].mean()),
        "expected_sign_agreement": statistics.expected_sign_agreement(num_seeds),
        "mean_published_p": float(pairs["published_p"].mean()),
        "expected_published_p": statistics.expected_published_p(num_seeds),
        "median_seeds_needed": float(
            statistics.seeds_needed(statistics.signal_to_noise(runs)).median()
        ),
        "mean_std": float(pairs["std"].mean()),
        "mean_pairwise_std": mean_pairwise_std(dataset),
    }


def per_pair(runs: xr.DataArray) -> xr.Dataset:
    """All statistics of each train-test pair."""
    tested = statistics.student_t(runs)
    return tested.assign(
        q=statistics.benjamini_hochberg(tested["p"]),
        sign_agreement=statistics.sign_agreement(runs),
        published_p=statistics.published_p(runs),
        n_seeds=runs.sizes["seed"],
    )


def mean_pairwise_std(dataset: xr.Dataset) -> float:
    """The published standard deviation of LOO, mean over pairs; other methods have none."""
    if "test_loss" not in dataset:
        return np.nan
    variance = statistics.pooled_pair_variance(dataset["score"], dataset["test_loss"])
    return float(np.sqrt(variance).mean())


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
