"""Measure how well few runs predict: the distributional LDS by the number of runs.

Letters: S runs, D draws of some of them, L differences.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from bayestda.distributional.differences import Difference, difference_of
from bayestda.distributional.influence import DifferenceLike
from bayestda.distributional.samples import Samples, samples_of
from bayestda.distributional.validation import lds_scores, warn_of_distances
from bayestda.errors import UserError


def lds_by_runs(
    predicted: xr.DataArray,
    retrained: xr.DataArray,
    runs: Sequence[int],
    *,
    differences: Sequence[DifferenceLike] = ("mean", "variance", "wasserstein"),
    num_draws: int = 20,
) -> pd.DataFrame:
    """Return the distributional LDS of predictions from few runs, against *all* retrained runs.

    Args:
        predicted: Predicted samples, in the form of :func:`tda.validate`, of three removals or
            more.
        retrained: Samples of the retrained runs, in the form of :func:`tda.validate`. If seeds are
            the same, predictions share the noise of what they are compared with.
        runs: Numbers of runs that predict.
        differences: Differences whose changes are ranked over removals.
        num_draws: Number D of random choices of that many runs, without replacement; if all runs
            predict, there is one.

    Returns:
        A row per number of runs and difference (and checkpoint): ``n_seeds``, ``difference``,
        ``value``, the mean over draws, and ``low`` and ``high``, 95 % of the draws (NaN where all
        runs predict). The value is NaN where a draw has no defined difference: the variance of one
        run, a tail that no removal changes, or a distance or function of your own from runs whose
        sample before is not known. As in :func:`tda.validate`, test points count where predictions
        differ between removals.

    Raises:
        UserError: Arrays do not fit together, there are fewer than three removals, or a number of
            runs is larger than there are.
    """
    chosen_differences = [difference_of(difference) for difference in differences]
    rows = []
    for checkpoint, samples in samples_of(predicted, retrained):
        _check(samples, runs)
        warn_of_distances(samples, chosen_differences)
        labels = {} if checkpoint is None else {"checkpoint": checkpoint}
        for count in runs:
            rows.append(_row(samples, count, chosen_differences, num_draws).assign(**labels))
    return pd.concat(rows, ignore_index=True)


def _row(
    samples: Samples, count: int, differences: list[Difference], num_draws: int
) -> pd.DataFrame:
    """Rows of the table for one number of runs."""
    rng, total = np.random.default_rng(0), len(samples.before)
    all_retrained, num_draws = np.arange(len(samples.retrained)), 1 if count == total else num_draws
    draws = [rng.choice(total, count, replace=False) for _ in range(num_draws)]
    # The variance of one run is not defined. The table says so by NaN, numpy also warns.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Degrees of freedom|invalid value", RuntimeWarning)
        scores_DL = np.stack([
            lds_scores(samples.of_runs(draw_S, all_retrained), samples, differences)
            for draw_S in draws
        ])  # fmt: skip
    names = [difference.name for difference in differences]
    columns = {"difference": names, "n_seeds": count, "value": scores_DL.mean(0)}
    low, high = np.quantile(scores_DL, (0.025, 0.975), axis=0) * (np.nan if num_draws == 1 else 1)
    return pd.DataFrame(columns | {"low": low, "high": high, "n_draws": num_draws})


def _check(samples: Samples, runs: Sequence[int]) -> None:
    total, num_groups = len(samples.before), samples.predicted.shape[1]
    if num_groups < 3:
        raise UserError(f"a ranking needs three removals or more, not {num_groups}")
    if any(not 1 <= count <= total for count in runs):
        raise UserError(f"runs={list(runs)} must be between 1 and {total}, the number of runs")
