"""How reliable is each method's mean score, and does it explain this model or the procedure?

    python analysis/reliability.py [--experiment NAME ...]

Reads   results/<experiment>/scores/<method>/
Writes  results/<experiment>/reliability.csv

Pearson correlations over all train-test pairs, with 95 % jackknife intervals over seeds.
Quantities of a method alone: split_half (mean maps of two halves of the seeds), reliability (of the
mean over all seeds), ceiling (the largest correlation that anything noise-free can have with it)
and label_share (the part of the mean map's variance that the labels of the pair determine).
Quantities of a method with LOO (column reference): correlation; corrected for both reliabilities,
as if noise were independent, although methods share their models; cross_half (method from one half
of the seeds, LOO from the other) and cross_half_corrected, which needs no such assumption;
same_seed, cross_seed and same_minus_cross (above zero: the score explains its own model).
Column scope: all_pairs; or within_labels, the same for scores less their mean over all pairs with
the same training and test label, which the labels alone do not tell.
Positive: both methods find the same examples helpful. The quantities are the metrics of this table
in bayestda/experiments/metrics.py.
Takes 7 s for 10 seeds, 30 x 900 pairs and eight methods.
"""

from pathlib import Path

import pandas as pd
import xarray as xr

from bayestda import statistics
from bayestda.experiments import metrics
from bayestda.experiments.analysis import comparable_scores, main, methods
from bayestda.experiments.grid import Experiment
from bayestda.experiments.results import write_table
from bayestda.experiments.sample import Sample

REFERENCE = "loo"


def analyse(experiment: Experiment) -> list[Path]:
    """Write the table of one experiment."""
    runs = {
        method: statistics.run_means(dataset["score"])
        for method, dataset in comparable_scores(experiment, methods(experiment)).items()
    }
    within = {method: statistics.within_labels(scores) for method, scores in runs.items()}
    scopes = dict(zip(metrics.SCOPES, (runs, within), strict=True))
    table = pd.concat([rows(scores, scope) for scope, scores in scopes.items()])
    return [write_table(experiment, "reliability", table)]


def rows(runs: dict[str, xr.DataArray], scope: str) -> pd.DataFrame:
    """Compute the rows of one scope: of every method alone, and with the reference."""
    tables = [computed(method, Sample(scores), scope) for method, scores in runs.items()]
    if REFERENCE in runs:
        for method in runs:
            sample = Sample(*common_seeds(runs[method], runs[REFERENCE]))
            if method != REFERENCE and sample.scores.sizes["seed"] > 1:
                tables.append(computed(method, sample, scope))
    return pd.concat(tables)


def computed(method: str, sample: Sample, scope: str) -> pd.DataFrame:
    """Compute all metrics of a sample: those with LOO if it has a reference, else the others."""
    with_loo = sample.reference is not None
    named = {"method": method, "reference": REFERENCE if with_loo else ""}
    sizes = sample.scores.sizes
    about = {"n_seeds": sizes["seed"], "n_pairs": sizes["train"] * sizes["test"], "scope": scope}
    return pd.DataFrame(
        {**named, "quantity": metric.name, **estimate._asdict(), **about}
        for metric in metrics.of_table("reliability", with_loo)
        if scope in metric.scopes and (estimate := metrics.estimate(metric, sample))
    )


def common_seeds(a: xr.DataArray, b: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Select the seeds that both have."""
    in_b = set(b["seed"].values.tolist())
    common = [seed for seed in a["seed"].values.tolist() if seed in in_b]
    return a.sel(seed=common), b.sel(seed=common)


if __name__ == "__main__":
    main(__doc__, analyse)
