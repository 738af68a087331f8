"""How well do few runs predict? Distributional LDS by the number of runs.

Letters: S runs, D draws of some of them, L differences.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from bayestda.distributional.differences import Difference, difference_of
from bayestda.distributional.influence import Asked
from bayestda.distributional.samples import Samples, samples_of
from bayestda.distributional.validation import lds_scores, warn_of_distances
from bayestda.errors import UserError


def lds_by_runs(
    predicted: xr.DataArray,
    retrained: xr.DataArray,
    runs: Sequence[int],
    *,
    differences: Sequence[Asked] = ("mean", "variance", "wasserstein"),
    num_draws: int = 20,
) -> pd.DataFrame:
    """Distributional LDS of predictions from few runs, against *all* retrained runs.

    Args:
        predicted, retrained, differences: as of :func:`tda.validate`, three removals at least. Of
            the same seeds, predictions share the noise of what they are compared with.
        runs: how many predict.
        num_draws: D random choices of that many, without replacement; one, where all predict.

    Returns:
        A row per number of runs and difference (and checkpoint): ``n_seeds``, ``difference``,
        ``value``, the mean over draws, and ``low``, ``high``, 95 % of the draws (of all runs: NaN).
        NaN where a draw has no defined difference, such as the variance of one run, a tail that no
        removal changes, or a distance, or function of your own, from runs whose sample before is
        not known. As in :func:`tda.validate`, test points count where predictions differ between
        removals.

    Raises:
        UserError: as :func:`tda.validate`; more runs than there are; fewer than three removals.
    """
    wanted = [difference_of(asked) for asked in differences]
    rows = []
    for checkpoint, samples in samples_of(predicted, retrained):
        _check(samples, runs)
        warn_of_distances(samples, wanted)
        at = {} if checkpoint is None else {"checkpoint": checkpoint}
        rows += [_row(samples, count, wanted, num_draws).assign(**at) for count in runs]
    return pd.concat(rows, ignore_index=True)


def _row(
    samples: Samples, count: int, wanted: Sequence[Difference], num_draws: int
) -> pd.DataFrame:
    """One number of runs."""
    rng, total = np.random.default_rng(0), len(samples.before)
    every, draws = np.arange(len(samples.retrained)), 1 if count == total else num_draws
    chosen = [rng.choice(total, count, replace=False) for _ in range(draws)]
    with warnings.catch_warnings():  # of one run no variance is defined: NaN says so
        warnings.filterwarnings("ignore", "Degrees of freedom|invalid value", RuntimeWarning)
        scores_DL = np.stack(
            [lds_scores(samples.of_runs(own, every), samples, list(wanted)) for own in chosen]
        )
    names = [difference.name for difference in wanted]
    columns = {"difference": names, "n_seeds": count, "value": scores_DL.mean(0)}
    low, high = np.quantile(scores_DL, (0.025, 0.975), axis=0) * (np.nan if draws == 1 else 1)
    return pd.DataFrame(columns | {"low": low, "high": high, "n_draws": draws})


def _check(samples: Samples, runs: Sequence[int]) -> None:
    total, num_groups = len(samples.before), samples.predicted.shape[1]
    if num_groups < 3:
        raise UserError(f"to rank removals takes three at least, not {num_groups}")
    if any(not 1 <= count <= total for count in runs):
        raise UserError(f"runs={list(runs)} must be between 1 and the {total} runs that predict")
