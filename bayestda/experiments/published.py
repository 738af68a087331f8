"""The numbers that Nguyen et al. 2023 printed, and the same numbers made here in the released way.

The released way is an experiment with ``--randomness published``, leave-one-out by ``--variant
published``, influence by ``--solver lissa``, and the released code's statistic. Its figures call a
``p-value`` what is the signed mean/std, and it gives ATS and influence the other sign.
"""

import json
from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayestda import statistics
from bayestda.errors import UserError
from bayestda.experiments import paths, results
from bayestda.experiments.analysis import comparable_scores, independent_predictions
from bayestda.experiments.grid import OTHER_SIGN, Experiment
from bayestda.experiments.sample import Sample
from bayestda.statistics.correlation import KINDS, correlation_matrix, statistic_maps

WAYS = {"loo": "loo_published", "influence": "influence_lissa"}  # the released way of a method
STATISTICS = ("mean", "std", "signal_to_noise")  # whose correlations the paper's figure 8 prints


@cache
def printed() -> dict[str, Any]:
    """Read the printed numbers: ``methods``, ``source`` and ``experiments``, by name."""
    known = json.loads((paths.REPOSITORY / "data/published/nguyen2023.json").read_text())
    return {**known, "experiments": {one["experiment"]: one for one in known["experiments"]}}


def released(experiment: Experiment) -> Experiment:
    """Return the experiment that runs the released way.

    Raises:
        UserError: The paper has printed no numbers of this experiment, or not of its kind of runs.
    """
    if experiment.name not in printed()["experiments"]:
        known = ", ".join(printed()["experiments"])
        raise UserError(f"the paper has no numbers of {experiment.name}: choose of {known}")
    if experiment.randomness != "init":
        raise UserError(
            f"{experiment.name} cannot be run the released way: the released code has no runs that "
            "share an initialisation, and how the paper's were made is not known"
        )
    return replace(experiment, randomness="published")


def comparison(experiment: Experiment) -> pd.DataFrame:
    """Return the printed numbers beside those made in the released way.

    Returns:
        A row per number: ``quantity``, ``of`` (a method, two of them, or a split),
        ``printed``, ``released`` (made here), and ``same``, whether that rounds to the printed
        digits.

    Raises:
        UserError: The released way has not been run, or not for all methods.
    """
    way = released(experiment)
    told = printed()["experiments"][experiment.name]
    methods = printed()["methods"]
    files = [WAYS.get(method, method) for method in methods]
    datasets = comparable_scores(way, files)
    scores = {name: dataset["score"] for name, dataset in datasets.items()}
    runs = {
        method: statistics.run_means(scores[file]) * (-1 if method in OTHER_SIGN else 1)
        for method, file in zip(methods, files, strict=True)
    }
    rows = [
        ("mean p", method, told["mean_p"][method], _mean_p(own)) for method, own in runs.items()
    ]
    for count, value in enumerate(told["loo_mean_p_by_checkpoints"], start=1):
        last = scores["loo_published"].isel(checkpoint=slice(-count, None))
        rows.append(("mean p of LOO", f"{count} checkpoints", value, _mean_p(_over_runs(last))))
    for split, value in told["accuracy"].items():
        rows.append(("accuracy", split, value, _accuracy(way, split)))
    rows += _correlations(told["correlations"], runs)
    table = pd.DataFrame(rows, columns=["quantity", "of", "printed", "released"])
    digits = np.where(table["quantity"].str.contains("correlation"), 2, 3)
    gap = (table["released"] - table["printed"]).abs()
    # Half a unit of the last digit, and the rounding of these differences.
    return table.assign(same=gap <= 0.5 * 10.0**-digits + 1e-9)


def ours(experiment: Experiment) -> pd.DataFrame:
    """Return what this project says of the same methods, one row each; empty: nothing was run.

    Returns:
        ``method``, ``mean_p`` (Student's t), ``share_q_below_05``, ``split_half`` and
        ``pearson_with_loo``, over all pairs.
    """
    methods = printed()["methods"]
    if not set(methods) <= set(results.methods_with_scores(experiment.name)):
        return pd.DataFrame()
    datasets = comparable_scores(experiment, methods)
    loo = _over_runs(datasets["loo"]["score"])
    rows = []
    for method, dataset in datasets.items():
        sample = Sample(dataset["score"], reference=None if method == "loo" else loo)
        agreement = sample.agreement["correlation"].value if method != "loo" else float("nan")
        rows.append(
            {
                "method": method,
                "mean_p": float(sample.pairs["p"].mean()),
                "share_q_below_05": float((sample.pairs["q"] < 0.05).mean()),
                "split_half": sample.reliability["split_half"].value,
                "pearson_with_loo": agreement,
            }
        )
    return pd.DataFrame(rows)


def _over_runs(scores: xr.DataArray) -> xr.DataArray:
    return statistics.run_means(scores)


def _mean_p(runs: xr.DataArray) -> float:
    return float(statistics.published_p(runs).mean())


def _accuracy(way: Experiment, split: str) -> float:
    """The mean of the last checkpoint, which is what table 3 prints."""
    predictions = independent_predictions(way).isel(checkpoint=-1)
    labels = predictions[f"{split}_label"]
    return float(statistics.accuracy(predictions[f"{split}_logit"], labels, split).mean())


def _correlations(
    told: dict[str, list], runs: dict[str, xr.DataArray]
) -> list[tuple[str, str, float, float]]:
    """Rows of figure 8: means, standard deviations and mean/std of each two methods."""
    runs_TSNM = np.stack([one.values for one in runs.values()])
    num_seeds = runs_TSNM.shape[1]
    found = statistic_maps(runs_TSNM, np.full(num_seeds, 1 / num_seeds))
    maps_LTNM = dict(zip(("mean", "std", "p", "signal_to_noise"), found, strict=True))
    rows = []
    for kind in KINDS:
        for statistic in STATISTICS:
            matrix = correlation_matrix(maps_LTNM[statistic], kind, "all_pairs")
            for a, b in combinations(range(len(runs)), 2):
                names = list(runs)
                value = told[f"{kind}_{statistic}"][a][b]
                quantity = f"{kind} correlation of {statistic}"
                rows.append((quantity, f"{names[a]}, {names[b]}", value, float(matrix[a, b])))
    return rows
