"""Do predicted distributions hold? Against retraining, with the noise of finitely many runs beside.

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
from bayestda.distributional.influence import RESAMPLES, Asked
from bayestda.distributional.samples import Samples, samples_of
from bayestda.statistics.intervals import Interval, bootstrap_interval, fisher_z, jackknife_interval
from bayestda.statistics.reliability import spearman_brown

MEAN = DIFFERENCES["mean"]


@dataclass(frozen=True)
class Validation:
    """What :func:`validate` finds.

    Attributes:
        errors: a row per removal and test point.
        lds: a row per difference: distributional linear datamodelling scores.
    """

    errors: pd.DataFrame
    lds: pd.DataFrame


def validate(
    predicted: xr.DataArray,
    retrained: xr.DataArray,
    *,
    differences: Sequence[Asked] = ("mean", "variance", "wasserstein"),
    num_resamples: int = RESAMPLES,
) -> Validation:
    """Predicted counterfactual samples against samples of retrained runs.

    Runs of one seed name share initialisation and order (common random numbers), and are resampled
    together; with other seeds in ``retrained`` the two are independent. Intervals are of 95 % over
    runs, from random halves of them, unless they say otherwise.

    Args:
        predicted: dims (seed[, checkpoint][, group], test), from :func:`tda.predict_removal`.
        retrained: of the same removals, by their names where both have names, else in the same
            order; dims (seed[, checkpoint][, member or group], test), from :func:`tda.retrained`.
            With seeds of its own, distances, and functions of your own, are taken from what those
            runs measure without a removal, its coordinate ``before`` (:func:`tda.measure`).
        differences: whose changes are ranked over removals, as of
            :func:`tda.distributional_influence`.
        num_resamples: H.

    Returns:
        ``errors``, by removal and test point (and checkpoint): ``mean_change`` of retraining and
        ``mean_predicted``; ``mean_error``, their difference, predicted less retrained, with
        ``mean_low``, ``mean_high``; Wasserstein-2 distances to the retrained sample,
        ``w2_before`` of the sample without removal and ``w2_predicted``; ``gain``, the first less
        the second, with ``gain_low``, ``gain_high``: above 0 where predicting is better than not;
        ``w2_null``: what two independent samples of these sizes of the *same* distribution are
        apart on average (resampled from the retrained one). Common random numbers can bring
        ``w2_predicted`` below it.

        ``lds``, by difference (and checkpoint), empty below three removals: ``value``, Spearman's
        correlation over removals of predicted and measured differences from the sample before, mean
        over test points (of those not a number where other seeds lack that sample); ``low_seed``,
        ``high_seed``; ``low_group``, ``high_group``: jackknife over removals; ``split_half``: that
        correlation between the retrained runs' own halves (of an odd number of runs one is left
        out); ``ceiling``: its root, raised to all runs (Spearman-Brown); ``cross_half``: prediction
        of one half of the seeds against retraining of the other, which shared seeds cannot inflate.

    Raises:
        UserError: the two do not fit together, or less than four runs.
    """
    wanted = [difference_of(asked) for asked in differences]
    errors, lds = [], []
    for checkpoint, samples in samples_of(predicted, retrained):
        at = {} if checkpoint is None else {"checkpoint": checkpoint}
        errors.append(_errors(samples, num_resamples).assign(**at))
        if samples.predicted.shape[1] > 2:
            warn_of_distances(samples, wanted)
            lds.append(_lds(samples, wanted, num_resamples).assign(**at))
    return Validation(pd.concat(errors), pd.concat(lds) if lds else pd.DataFrame())


def _errors(samples: Samples, num_resamples: int) -> pd.DataFrame:
    value = _distances(samples)
    resampled = [_distances(half) for half, _ in samples.halves(num_resamples)]
    columns = dict(value)
    for name, prefix in (("mean_error", "mean"), ("gain", "gain")):
        replicates_H = np.stack([found[name] for found in resampled])
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
    rng, pool = np.random.default_rng(0), samples.retrained
    sizes = (len(samples.predicted), len(samples.retrained))
    total = np.zeros(pool.shape[1:])
    for _ in range(num_resamples):
        first, second = (pool[rng.integers(0, len(pool), size)] for size in sizes)
        total += wasserstein(first, second)
    return total / num_resamples


def _lds(samples: Samples, wanted: list[Difference], num_resamples: int) -> pd.DataFrame:
    value_L = lds_scores(samples, samples, wanted)
    halves = list(samples.halves(num_resamples))
    low, high = _on_fisher_scale(
        value_L, np.stack([lds_scores(half, half, wanted) for half, _ in halves]), samples.num_runs
    )
    groups = range(samples.predicted.shape[1])
    fewer = [samples.without(group) for group in groups]
    without = np.stack([lds_scores(part, part, wanted) for part in fewer])
    low_group, high_group = map(np.tanh, jackknife_interval(fisher_z(value_L), [fisher_z(without)]))
    across = [lds_scores(a, b, wanted) for a, b in halves]
    equal = samples.equal_halves(num_resamples)
    own = [lds_scores(a, b, wanted, measured=True) for a, b in equal]
    num_runs = len(samples.retrained)
    split_L = np.mean(own, axis=0)
    whole = [spearman_brown(float(r), num_runs, num_runs // 2) for r in split_L]
    columns = {
        "value": value_L, "low_seed": low, "high_seed": high, "low_group": low_group,
        "high_group": high_group, "split_half": split_L, "ceiling": np.sqrt(np.clip(whole, 0, 1)),
        "cross_half": np.mean(across, axis=0),
    }  # fmt: skip
    return pd.DataFrame({"difference": [w.name for w in wanted], **columns}).assign(
        n_groups=len(groups), n_seeds=len(samples.before), n_truth_seeds=num_runs
    )


def lds_scores(
    first: Samples, second: Samples, wanted: list[Difference], measured: bool = False
) -> np.ndarray:
    """Spearman's correlation over removals [L], mean over test points where it is defined.

    Between the predicted (or measured) differences of the first and the measured of the second.
    """
    found = []
    for difference in wanted:
        y_GM = _measured(difference, second)
        x_GM = (
            _measured(difference, first) if measured
            else _over_groups(difference, first.before, first.predicted)
        )  # fmt: skip
        found.append(_spearman(x_GM, y_GM))
    return np.array(found)


def warn_of_distances(samples: Samples, wanted: Sequence[Difference]) -> None:
    """Say which scores are not a number: a distance would mostly be that of two samples before."""
    names = [difference.name for difference in wanted if not difference.of_statistic]
    if samples.base is None and names:
        warnings.warn(
            f"removals are not ranked by {', '.join(names)}: what the retrained seeds measure "
            "without a removal is not known. Give it with retrained.assign_coords(before=...), "
            "from tda.measure of their posterior",
            stacklevel=3,
        )


def _measured(difference: Difference, samples: Samples) -> np.ndarray:
    """Differences [G M] of the retrained runs; see :func:`warn_of_distances`."""
    if samples.base is not None:
        return _over_groups(difference, samples.base, samples.retrained)
    if difference.of_statistic:
        return _over_groups(difference, samples.before, samples.retrained)
    return np.full(samples.retrained.shape[1:], np.nan)


def _over_groups(difference: Difference, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return difference(np.broadcast_to(before, (len(before), *after.shape[1:])), after)


def _spearman(x_GM: np.ndarray, y_GM: np.ndarray) -> float:
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
