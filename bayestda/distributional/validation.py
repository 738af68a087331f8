"""Validate predicted distributions against retraining, with the noise of finitely many runs.

Letters: S runs, G removals (groups of examples), M test points, H resamples, L differences.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from bayestda.distributional.differences import DIFFERENCES, Difference, difference_of, wasserstein
from bayestda.distributional.influence import RESAMPLES, DifferenceLike
from bayestda.distributional.samples import Samples, samples_of
from bayestda.statistics.intervals import Interval, bootstrap_interval, fisher_z, jackknife_interval
from bayestda.statistics.reliability import spearman_brown

MEAN = DIFFERENCES["mean"]


@dataclass(frozen=True)
class Validation:
    """Hold the results of :func:`validate`.

    Attributes:
        errors: Errors, with a row per removal and test point.
        lds: Distributional linear datamodelling scores (LDS), with a row per difference.
    """

    errors: pd.DataFrame
    lds: pd.DataFrame


def validate(
    predicted: xr.DataArray,
    retrained: xr.DataArray,
    *,
    differences: Sequence[DifferenceLike] = ("mean", "variance", "wasserstein"),
    num_resamples: int = RESAMPLES,
) -> Validation:
    """Compare predicted counterfactual samples with samples of retrained runs.

    Runs with the same seed name share initialisation and order (common random numbers), and are
    resampled together. With other seeds in ``retrained`` the two are independent. Intervals are
    95 % over runs, from random halves of them, unless stated otherwise.

    Args:
        predicted: Samples from :func:`tda.predict_removal`, dims (seed[, checkpoint][, group],
            test).
        retrained: Samples from :func:`tda.retrained`, dims (seed[, checkpoint][, member or group],
            test), of the same removals: by name where both have names, else in the same order. If
            the seeds are others, distances (and functions of your own) need the measurements of
            these seeds without a removal (:func:`tda.measure`), as the coordinate ``before``.
        differences: Differences whose changes are ranked over removals, in a form of
            :func:`tda.distributional_influence`.
        num_resamples: Number H of random halves of the runs.

    Returns:
        ``errors``, a row per removal and test point (and checkpoint), with the columns

        ``mean_change``, ``mean_predicted``: The change of the mean by retraining, and predicted.

        ``mean_error``, ``mean_low``, ``mean_high``: Predicted less retrained change, and its
        interval.

        ``w2_before``, ``w2_predicted``: Wasserstein-2 distances to the retrained sample, of the
        sample without removal and of the predicted one.

        ``gain``, ``gain_low``, ``gain_high``: The first less the second distance, above 0 where the
        prediction is better than none, and its interval.

        ``w2_null``: The mean distance of two independent samples of these sizes from the *same*
        distribution (resampled from the retrained sample). Common random numbers can bring
        ``w2_predicted`` below it.

        ``lds``, a row per difference (and checkpoint), empty below three removals, with the columns

        ``value``: Spearman's correlation over removals of predicted and measured differences from
        the sample before, averaged over test points; NaN for distances if other seeds lack that
        sample.

        ``low_seed``, ``high_seed``: The interval over runs.

        ``low_group``, ``high_group``: The jackknife interval over removals.

        ``split_half``: The same correlation between two halves of the retrained runs; of an odd
        number one run is left out.

        ``ceiling``: The root of ``split_half``, raised to all runs (Spearman-Brown).

        ``cross_half``: The correlation of predictions from one half of the seeds with retraining of
        the other half, which shared seeds cannot inflate.

    Raises:
        UserError: The two do not fit together, or there are less than four runs.
    """
    chosen = [difference_of(difference) for difference in differences]
    errors, lds = [], []
    for checkpoint, samples in samples_of(predicted, retrained):
        labels = {} if checkpoint is None else {"checkpoint": checkpoint}
        errors.append(_errors(samples, num_resamples).assign(**labels))
        if samples.predicted.shape[1] > 2:
            warn_of_distances(samples, chosen)
            lds.append(_lds(samples, chosen, num_resamples).assign(**labels))
    return Validation(pd.concat(errors), pd.concat(lds) if lds else pd.DataFrame())


def _errors(samples: Samples, num_resamples: int) -> pd.DataFrame:
    value = _distances(samples)
    resampled = [_distances(half) for half, _ in samples.halves(num_resamples)]
    columns = dict(value)
    for name, prefix in (("mean_error", "mean"), ("gain", "gain")):
        replicates_H = np.stack([distances[name] for distances in resampled])
        ends = bootstrap_interval(value[name], replicates_H, samples.num_runs)
        columns |= {f"{prefix}_low": ends.low, f"{prefix}_high": ends.high}
    columns["w2_null"] = _null(samples, num_resamples)
    groups, tests = samples.names
    index = pd.MultiIndex.from_product([groups, tests], names=["group", "test"])
    flat = {name: array.ravel() for name, array in columns.items()}
    return pd.DataFrame(flat, index=index).reset_index()


def _distances(samples: Samples) -> dict[str, np.ndarray]:
    """Changes, errors and distances [G M]."""
    before = np.broadcast_to(samples.before, samples.predicted.shape)
    w2_before = wasserstein(before, samples.retrained)
    w2_predicted = wasserstein(samples.predicted, samples.retrained)
    return {
        "mean_change": MEAN(before, samples.retrained),
        "mean_predicted": MEAN(before, samples.predicted),
        "mean_error": MEAN(samples.retrained, samples.predicted),
        "w2_before": w2_before,
        "w2_predicted": w2_predicted,
        "gain": w2_before - w2_predicted,
    }


def _null(samples: Samples, num_resamples: int) -> np.ndarray:
    """Mean distance [G M] of two independent samples of the retrained distribution."""
    # Both samples are drawn from the retrained one with replacement, as if it were the population.
    rng, pool = np.random.default_rng(0), samples.retrained
    sizes = (len(samples.predicted), len(samples.retrained))
    total = np.zeros(pool.shape[1:])
    for _ in range(num_resamples):
        first, second = (pool[rng.integers(0, len(pool), size)] for size in sizes)
        total += wasserstein(first, second)
    return total / num_resamples


def _lds(samples: Samples, differences: list[Difference], num_resamples: int) -> pd.DataFrame:
    value_L = lds_scores(samples, samples, differences)
    halves = list(samples.halves(num_resamples))
    half_HL = np.stack([lds_scores(half, half, differences) for half, _ in halves])
    low_seed, high_seed = _on_fisher_scale(value_L, half_HL, samples.num_runs)
    num_groups = samples.predicted.shape[1]
    fewer = [samples.without(group) for group in range(num_groups)]
    fewer_GL = np.stack([lds_scores(part, part, differences) for part in fewer])
    group_ends = jackknife_interval(fisher_z(value_L), [fisher_z(fewer_GL)])
    low_group, high_group = map(np.tanh, group_ends)
    columns = {
        "value": value_L, "low_seed": low_seed, "high_seed": high_seed,
        "low_group": low_group, "high_group": high_group,
        **_split_half(samples, differences, num_resamples),
        "cross_half": np.mean([lds_scores(a, b, differences) for a, b in halves], axis=0),
    }  # fmt: skip
    names = [difference.name for difference in differences]
    return pd.DataFrame({"difference": names, **columns}).assign(
        n_groups=num_groups, n_seeds=len(samples.before), n_truth_seeds=len(samples.retrained)
    )


def _split_half(
    samples: Samples, differences: list[Difference], num_resamples: int
) -> dict[str, np.ndarray]:
    """Reliability of the retrained runs' differences, and the ceiling that follows [L]."""
    halves = samples.equal_halves(num_resamples)
    split_L = np.mean([lds_scores(a, b, differences, measured=True) for a, b in halves], axis=0)
    num_runs = len(samples.retrained)
    whole = [spearman_brown(float(r), num_runs, num_runs // 2) for r in split_L]
    return {"split_half": split_L, "ceiling": np.sqrt(np.clip(whole, 0, 1))}


def lds_scores(
    first: Samples, second: Samples, differences: list[Difference], measured: bool = False
) -> np.ndarray:
    """Return Spearman's correlation over removals [L], averaged over test points where defined.

    Args:
        first: Samples with the predicted differences.
        second: Samples with the measured differences, of the retrained runs.
        differences: Differences to rank removals by.
        measured: Whether to take the measured differences of ``first`` as well, instead of the
            predicted ones.
    """
    correlations = []
    for difference in differences:
        y_GM = _measured(difference, second)
        x_GM = (
            _measured(difference, first) if measured
            else _over_groups(difference, first.before, first.predicted)
        )  # fmt: skip
        correlations.append(_spearman(x_GM, y_GM))
    return np.array(correlations)


def warn_of_distances(samples: Samples, differences: Sequence[Difference]) -> None:
    """Warn which scores are NaN because the retrained seeds' sample before is not known."""
    names = [difference.name for difference in differences if not difference.of_statistic]
    if samples.base is None and names:
        warnings.warn(
            f"removals are not ranked by {', '.join(names)}: what the retrained seeds measure "
            "without a removal is not known. Give it with retrained.assign_coords(before=...), "
            "from tda.measure of their posterior",
            stacklevel=3,
        )


def _measured(difference: Difference, samples: Samples) -> np.ndarray:
    """Differences [G M] of the retrained runs from their sample before."""
    if samples.base is not None:
        return _over_groups(difference, samples.base, samples.retrained)
    # Without it, other seeds' sample before adds the same to a statistic of all removals, which
    # does not change ranks. A distance would mostly be that between the two samples before.
    if difference.of_statistic:
        return _over_groups(difference, samples.before, samples.retrained)
    return np.full(samples.retrained.shape[1:], np.nan)


def _over_groups(difference: Difference, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return difference(np.broadcast_to(before, (len(before), *after.shape[1:])), after)


def _spearman(x_GM: np.ndarray, y_GM: np.ndarray) -> float:
    """Correlation of ranks over removals, mean over test points where both vary."""
    x_GM, y_GM = (stats.rankdata(values, axis=0) for values in (x_GM, y_GM))
    x_GM, y_GM = x_GM - x_GM.mean(0), y_GM - y_GM.mean(0)
    norm_M = np.sqrt((x_GM**2).sum(0) * (y_GM**2).sum(0))
    defined_M = norm_M > 0
    if not defined_M.any():
        return float("nan")
    return float(((x_GM * y_GM).sum(0)[defined_M] / norm_M[defined_M]).mean())


def _on_fisher_scale(value: np.ndarray, resampled: np.ndarray, num_runs: int) -> Interval:
    ends = bootstrap_interval(fisher_z(value), fisher_z(resampled), num_runs)
    return Interval(*map(np.tanh, ends))
