r"""Estimate distributional influence: how removals change the distribution of a measurement.

Training is random, so a measurement m has a distribution over runs. Run i has the value
:math:`m_i` and, without example k, to first order :math:`m_i + s_{ik}`. Any difference of the two
samples is an influence of k (Mlodozeniec et al. 2025, arXiv 2506.12965). Runs are never averaged
first, because an average keeps nothing but the mean. For the variance, for example,

.. math:: \mathrm{Var}(m + s) - \mathrm{Var}(m) = 2 \mathrm{Cov}(m, s) + \mathrm{Var}(s).

All differences are *after removal less before*. For the mean this is the paper's influence with its
sign turned, so that positive = helpful where m is a loss.
Letters: S runs, H resamples, R examples or groups, M test.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from bayestda.distributional.differences import DIFFERENCES, Difference, difference_of
from bayestda.distributional.samples import Paired
from bayestda.errors import UserError
from bayestda.scores.groups import group_scores
from bayestda.statistics.intervals import bootstrap_interval
from bayestda.statistics.significance import ratio

DifferenceLike = str | Difference | Callable[[np.ndarray, np.ndarray], Any]
RESAMPLES = 200  # random halves of the runs for an interval
UNCHANGED = 0.1  # largest change of a mean that counts as none, in standard deviations
_FALSE_DISCOVERY_RATE = 0.05  # below which a change beside the mean counts


def distributional_influence(
    measured: xr.DataArray,
    shifts: xr.DataArray,
    difference: DifferenceLike = "wasserstein",
    *,
    num_resamples: int = RESAMPLES,
) -> xr.Dataset:
    """Return the difference that removing each example makes to the distribution over runs.

    Args:
        measured: Measurements from :func:`tda.measure`, dims (seed, ..., test).
        shifts: Shifts of the same runs, dims (seed, ..., train or group, test); samples are paired.
        difference: Difference of the two samples: ``mean``, ``variance``, ``std``,
            ``wasserstein``, :func:`tda.quantile`, :func:`tda.tail`, or any function of two samples
            [S], which is slower.
        num_resamples: Number H of random halves of the runs for the intervals
            (:func:`bayestda.statistics.intervals.bootstrap_interval`); 0: no intervals.

    Returns:
        The variables value and, with resamples, low and high, 95 % intervals over runs; dims
        (..., train or group, test). Intervals of a distance may go below 0.

    Raises:
        UserError: The two have different runs or test points, or the difference is unknown.
    """
    chosen, pairs = difference_of(difference), Paired.of(measured, shifts)
    arrays = {"value": pairs.value(chosen)}
    if num_resamples:
        resampled_H = np.stack([half.value(chosen) for half in pairs.halves(num_resamples)])
        ends = bootstrap_interval(arrays["value"], resampled_H, len(pairs.after))
        arrays |= {"low": ends.low, "high": ends.high}
    return pairs.labelled(arrays).assign_attrs(
        difference=chosen.name, sign="after removal less before", runs=len(pairs.after)
    )


def rank_removals(
    measured: xr.DataArray,
    shifts: xr.DataArray,
    difference: DifferenceLike = "variance",
    *,
    unchanged: float = UNCHANGED,
    num_resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Rank examples by how much their removal changes a distribution, with uncertainty.

    Args:
        measured, shifts, difference, num_resamples: The same as in
            :func:`distributional_influence`.
        unchanged: Largest change of a mean that counts as none, in standard deviations of the
            measurement over runs; the mean's whole interval must lie within it.

    Returns:
        A row per example or group and test point (and checkpoint), largest first, with the columns

        ``value``, ``low``, ``high``: The difference and its 95 % interval.

        ``rank``: The rank by size within the test point, 1 = largest; ties share their mean rank.

        ``rank_low``, ``rank_high``: 95 % of the ranks on random halves of the runs.

        ``q``: The false discovery rate of a value of zero, within the test point (of no use for
        distances).

        ``mean``, ``mean_low``, ``mean_high``: The change of the mean and its 95 % interval.

        ``only``: Whether the removal changes what averages over runs cannot show. The mean is
        unchanged, and the difference that is left when both samples have the same mean has a false
        discovery rate below .05 (:func:`beside_mean`).

    Raises:
        UserError: The two have different runs or test points, the difference is unknown, or there
            are fewer than three runs.
    """
    pairs, chosen = Paired.of(measured, shifts), difference_of(difference)
    num_runs = len(pairs.after)
    if num_runs < 3:
        raise UserError(f"a ranking with its uncertainty needs three runs or more, not {num_runs}")
    columns, resampled_H = _with_interval(pairs, chosen, num_resamples)
    columns["rank"] = _ranks(columns["value"])
    ends = np.quantile(_ranks(resampled_H), (0.025, 0.975), axis=0)
    columns["rank_low"], columns["rank_high"] = ends
    columns["q"] = _false_discovery(columns["value"], columns["high"] - columns["value"], num_runs)
    mean, _ = _with_interval(pairs, DIFFERENCES["mean"], num_resamples)
    columns |= {"mean": mean["value"], "mean_low": mean["low"], "mean_high": mean["high"]}
    limit = unchanged * pairs.before.std(axis=0, ddof=1)
    is_unchanged = (mean["low"] > -limit) & (mean["high"] < limit)
    columns["only"] = _changes_beside_mean(pairs, chosen, is_unchanged, num_resamples)
    table = pairs.labelled(columns).to_dataframe().reset_index()
    by = [dim for dim in pairs.dims if dim != pairs.row]
    return table.sort_values([*by, "rank"])


def _with_interval(
    pairs: Paired, difference: Difference, num_resamples: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The difference with its 95 % interval [... R M], and its resamples [H ... R M]."""
    value = pairs.value(difference)
    resampled_H = np.stack([half.value(difference) for half in pairs.halves(num_resamples)])
    low, high = bootstrap_interval(value, resampled_H, len(pairs.after))
    return {"value": value, "low": low, "high": high}, resampled_H


def _changes_beside_mean(
    pairs: Paired, difference: Difference, is_unchanged: np.ndarray, num_resamples: int
) -> np.ndarray:
    """Whether a removal leaves the mean unchanged and changes the rest [... R M]."""
    is_only = np.zeros(is_unchanged.shape, dtype=bool)
    # One test point at a time, as the null takes many copies of both samples.
    for test in range(is_unchanged.shape[-1]):
        if is_unchanged[..., test].any():
            rates_R = beside_mean(pairs.of_test(test), difference, num_resamples)[..., 0]
            is_only[..., test] = is_unchanged[..., test] & (rates_R < _FALSE_DISCOVERY_RATE)
    return is_only


def beside_mean(pairs: Paired, difference: Difference, num_resamples: int) -> np.ndarray:
    r"""Return false discovery rates [... R M] of the difference that removals make beside the mean.

    Both samples are moved to the mean before. Their difference d is then compared with those that
    are left when the two values of random runs are exchanged, as if the removal changed nothing.
    The test is Student's, :math:`t = (d - \bar d_H) / \mathrm{std}(d_H)`. The null of a distance,
    which is never below 0, lies above 0 in this way. Of the mean nothing is left, and rates are 1.

    Args:
        pairs: Samples before and after removals.
        difference: Difference of the two samples.
        num_resamples: Number H of random exchanges.
    """
    if difference is DIFFERENCES["mean"]:
        return np.ones(pairs.after.shape[1:])
    mean = pairs.before.mean(axis=0)
    centred = pairs.moved_to(mean)
    null_H = np.stack([
        exchanged.moved_to(mean).value(difference) for exchanged in centred.exchanges(num_resamples)
    ])  # fmt: skip
    t = ratio(centred.value(difference) - null_H.mean(axis=0), null_H.std(axis=0, ddof=1))
    p = 2 * stats.t.sf(np.abs(t), len(pairs.after) - 1)
    return stats.false_discovery_control(p, axis=-2)


def predict_removal(measured: xr.DataArray, shifts: xr.DataArray, remove: Any) -> xr.DataArray:
    """Predict the counterfactual sample without some examples: one value for each run.

    Shifts of the removed examples are summed within each run.

    Args:
        measured: Measurements from :func:`tda.measure`, dims (seed, ..., test).
        shifts: Shifts of the same runs, dims (seed, ..., train or group, test).
        remove: Names of the examples or groups to remove together, such as ``[3, 17]``; or
            booleans [G N], one removal in each row.

    Returns:
        The sample, dims (seed, ..., test) or (seed, ..., group, test). The coordinate ``before``
        holds the sample without removal.

    Raises:
        UserError: The two have different runs or test points, or examples are unknown.
    """
    pairs = Paired.of(measured, shifts)
    names, row = np.asarray(remove), pairs.row
    if names.dtype == bool:
        if row == "group":
            raise UserError(
                "groups cannot be removed by booleans: give the names of the groups as remove="
            )
        total = group_scores(shifts, names)
    else:
        unknown = sorted(set(names.ravel().tolist()) - set(shifts[row].values.tolist()))
        if unknown:
            raise UserError(
                f"remove={unknown} are not among the names of the dim {row}: choose from "
                f"shifts[{row!r}]"
            )
        total = shifts.sel({row: names.ravel()}).sum(row)
    base = measured.reset_coords(drop=True).transpose(*(d for d in total.dims if d != "group"))
    predicted = (total + base).transpose(*total.dims).rename("predicted")
    return predicted.assign_coords(before=base)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks by size over the rows of [... R M], 1 = largest; ties share the mean."""
    return stats.rankdata(-np.abs(values), axis=-2)


def _false_discovery(value: np.ndarray, half_width: np.ndarray, num_runs: int) -> np.ndarray:
    """Rates [... R M] over R, from values and the half width of their 95 % intervals."""
    # The interval is Student's, so that its half width gives the standard error.
    error = half_width / stats.t.ppf(0.975, num_runs - 1)
    p = 2 * stats.t.sf(np.abs(ratio(value, error)), num_runs - 1)
    return stats.false_discovery_control(p, axis=-2)
