"""How reliable is each method's mean score, and does it explain this model or the procedure?

    python analysis/reliability.py [--experiment NAME ...]

Reads   results/<experiment>/scores/<method>/
Writes  results/<experiment>/reliability.csv

Pearson correlations over all train-test pairs, with 95 % jackknife intervals over seeds.
Of a method alone: split_half (mean maps of two halves of the seeds), reliability (of the mean
over all seeds), ceiling (the largest correlation that anything noise-free can have with it) and
label_share (the part of the mean map's variance that the labels of the pair determine).
Of a method with LOO, column reference: correlation; corrected for both reliabilities (as if noise
were independent, but methods share their models); cross_half (method from one half of the seeds,
LOO from the other) and cross_half_corrected (which needs no such assumption); same_seed,
cross_seed and same_minus_cross (above zero: the score explains its own model). Column scope:
all_pairs, or within_labels: the same for scores less their mean over all pairs with the same
training and test label, that is for what is not known from the labels already.
Positive: both methods find the same examples helpful.
Takes 7 s for 10 seeds, 30 x 900 pairs and eight methods.
"""

from pathlib import Path

import pandas as pd
import xarray as xr

from bayestda import statistics
from bayestda.experiments.analysis import comparable_scores, main, methods, write_table
from bayestda.experiments.grid import Experiment

REFERENCE = "loo"


def analyse(experiment: Experiment) -> list[Path]:
    """Write the table of one experiment."""
    runs = {
        method: statistics.run_means(dataset["score"])
        for method, dataset in comparable_scores(experiment, methods(experiment)).items()
    }
    within = {method: statistics.within_labels(scores) for method, scores in runs.items()}
    tables = [
        rows(scores).assign(scope=scope)
        for scope, scores in (("all_pairs", runs), ("within_labels", within))
    ]
    table = pd.concat(tables)
    of_itself = (table["scope"] == "within_labels") & (table["quantity"] == "label_share")
    return [write_table(experiment, "reliability", table[~of_itself])]


def rows(runs: dict[str, xr.DataArray]) -> pd.DataFrame:
    """Rows of one scope: of every method alone, and with the reference."""
    tables = [alone(method, scores) for method, scores in runs.items()]
    if REFERENCE in runs:
        tables += [
            against(method, *common_seeds(scores, runs[REFERENCE]))
            for method, scores in runs.items()
            if method != REFERENCE
        ]
    return pd.concat(tables)


def alone(method: str, scores: xr.DataArray) -> pd.DataFrame:
    """Rows of a method by itself."""
    return tidy(statistics.reliability(scores), method, "", scores)


def against(method: str, scores: xr.DataArray, reference: xr.DataArray) -> pd.DataFrame:
    """Rows of a method with the reference; none if they share less than two seeds."""
    if scores.sizes["seed"] < 2:
        return pd.DataFrame()
    return tidy(statistics.agreement(scores, reference), method, REFERENCE, scores)


def tidy(table: pd.DataFrame, method: str, reference: str, scores: xr.DataArray) -> pd.DataFrame:
    """Add what the numbers are about, and n."""
    table = table.assign(
        n_seeds=scores.sizes["seed"],
        n_pairs=scores.sizes["train"] * scores.sizes["test"],
    )
    table.insert(0, "method", method)
    table.insert(1, "reference", reference)
    return table


def common_seeds(a: xr.DataArray, b: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Both on the seeds that both have."""
    in_b = set(b["seed"].values.tolist())
    common = [seed for seed in a["seed"].values.tolist() if seed in in_b]
    return a.sel(seed=common), b.sel(seed=common)


if __name__ == "__main__":
    main(__doc__, analyse)
