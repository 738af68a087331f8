r"""Distributional influence: how removing examples changes the distribution of a measurement.

Training is random, so a measurement m has a distribution over runs. Run i has the value
:math:`m_i` and, without example k, to first order :math:`m_i + s_{ik}`. Any difference of the two
samples is an influence of k (Mlodozeniec et al. 2025, arXiv 2506.12965); runs are never averaged
before, as of averages only the mean survives. Of the variance, for example,

.. math:: \mathrm{Var}(m + s) - \mathrm{Var}(m) = 2 \mathrm{Cov}(m, s) + \mathrm{Var}(s).

All differences are *after removal less before*; of the mean that is the paper's with its sign
turned, so that positive = helpful where m is a loss.
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

Asked = str | Difference | Callable[[np.ndarray, np.ndarray], Any]
RESAMPLES = 200
UNCHANGED = 0.1  # standard deviations of the measurement


def distributional_influence(
    measured: xr.DataArray,
    shifts: xr.DataArray,
    difference: Asked = "wasserstein",
    *,
    num_resamples: int = RESAMPLES,
) -> xr.Dataset:
    """The difference that removing each example makes to the distribution over runs.

    Args:
        measured: dims (seed, ..., test), from :func:`tda.measure`.
        shifts: dims (seed, ..., train or group, test), of the same runs: samples are paired.
        difference: ``mean``, ``variance``, ``std``, ``wasserstein``, :func:`tda.quantile`,
            :func:`tda.tail`, or any function of two samples [S], which is slower.
        num_resamples: H of the intervals: the difference on random halves of the runs, paired
            (:func:`bayestda.statistics.intervals.bootstrap_interval`); 0: no intervals.

    Returns:
        value, and with resamples low, high: 95 % intervals over runs; dims (..., train or group,
        test). Those of a distance do not end at 0.

    Raises:
        UserError: other runs or test points in the two, or no such difference.
    """
    asked, pairs = difference_of(difference), Paired.of(measured, shifts)
    found = {"value": pairs.value(asked)}
    if num_resamples:
        resampled_H = np.stack([half.value(asked) for half in pairs.halves(num_resamples)])
        ends = bootstrap_interval(found["value"], resampled_H, len(pairs.after))
        found |= {"low": ends.low, "high": ends.high}
    return pairs.labelled(found).assign_attrs(
        difference=asked.name, sign="after removal less before", runs=len(pairs.after)
    )


def rank_removals(
    measured: xr.DataArray,
    shifts: xr.DataArray,
    difference: Asked = "variance",
    *,
    unchanged: float = UNCHANGED,
    num_resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Examples in the order in which removing them changes a distribution, and how sure that is.

    Args:
        measured, shifts, difference, num_resamples: as of :func:`distributional_influence`.
        unchanged: a mean counts as unchanged where its interval lies within ± this many standard
            deviations of the measurement over runs.

    Returns:
        A row per example or group and test point (and checkpoint), largest first: ``value``,
        ``low``, ``high``; ``rank`` by size within the test point, 1 = largest, where ties share
        their mean, ``rank_low``, ``rank_high``: 95 % of its ranks on random halves of the runs;
        ``q``: false discovery rate
        of a value of zero, within the test point (of no use for distances); ``mean``,
        ``mean_low``, ``mean_high``; ``only``: what averages over runs cannot show: an unchanged
        mean, and a false discovery rate below .05 of the difference that is left when both samples
        have one mean (:func:`beside_mean`).

    Raises:
        UserError: as :func:`distributional_influence`, and fewer than three runs.
    """
    pairs, asked = Paired.of(measured, shifts), difference_of(difference)
    num_runs = len(pairs.after)
    if num_runs < 3:
        raise UserError(f"a ranking with its uncertainty takes three runs at least, not {num_runs}")
    columns: dict[str, np.ndarray] = {}
    for prefix, wanted in (("", asked), ("mean_", difference_of("mean"))):
        value = pairs.value(wanted)
        resampled_H = np.stack([half.value(wanted) for half in pairs.halves(num_resamples)])
        low, high = bootstrap_interval(value, resampled_H, num_runs)
        columns |= {f"{prefix}value": value, f"{prefix}low": low, f"{prefix}high": high}
        if not prefix:
            ranks_H = _ranks(resampled_H)
            columns["rank"] = _ranks(value)
            columns["rank_low"], columns["rank_high"] = np.quantile(ranks_H, (0.025, 0.975), axis=0)
            columns["q"] = _false_discovery(value, high - value, num_runs)
    limit = unchanged * pairs.before.std(axis=0, ddof=1)
    mean_is_unchanged = (columns["mean_low"] > -limit) & (columns["mean_high"] < limit)
    columns["only"] = np.zeros(mean_is_unchanged.shape, dtype=bool)
    for test in range(mean_is_unchanged.shape[-1]):  # one at a time: it takes many copies
        if (unchanged_R := mean_is_unchanged[..., test]).any():
            rates_R = beside_mean(pairs.of_test(test), asked, num_resamples)[..., 0]
            columns["only"][..., test] = unchanged_R & (rates_R < 0.05)
    table = pairs.labelled(columns).to_dataframe().reset_index()
    by = [dim for dim in pairs.dims if dim != pairs.row]
    return table.rename(columns={"mean_value": "mean"}).sort_values([*by, "rank"])


def beside_mean(pairs: Paired, difference: Difference, num_resamples: int) -> np.ndarray:
    r"""False discovery rates [... R M] of a difference that removals make beside the mean's.

    Both samples are moved to the mean before. The difference of what results is compared with those
    that are left when the two values of random runs are exchanged, as if the removal changed
    nothing, by Student's t: :math:`(d - \bar d_H) / \mathrm{std}(d_H)`. A distance, which is never
    below 0, has a null beyond 0 in this way. Of the mean nothing is left, and rates are 1.
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
    """The counterfactual sample: one value a run, shifts summed within each run.

    Args:
        measured, shifts: as of :func:`distributional_influence`.
        remove: names of the examples or groups to remove together, such as ``[3, 17]``; or booleans
            [G N], one removal a row.

    Returns:
        Dims (seed, ..., test), or (seed, ..., group, test). The coordinate ``before`` holds the
        sample without removal.

    Raises:
        UserError: other runs or test points in the two, or no such examples.
    """
    pairs = Paired.of(measured, shifts)
    names, row = np.asarray(remove), pairs.row
    if names.dtype == bool:
        if row == "group":
            raise UserError("shifts of groups are removed by the groups' names, not by booleans")
        moved = group_scores(shifts, names)
    else:
        unknown = sorted(set(names.ravel().tolist()) - set(shifts[row].values.tolist()))
        if unknown:
            raise UserError(f"remove={unknown} are no names of the dim {row}")
        moved = shifts.sel({row: names.ravel()}).sum(row)
    base = measured.reset_coords(drop=True).transpose(*(d for d in moved.dims if d != "group"))
    predicted = (moved + base).transpose(*moved.dims).rename("predicted")
    return predicted.assign_coords(before=base)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks by size over the rows of [... R M], 1 = largest; ties share the mean."""
    return stats.rankdata(-np.abs(values), axis=-2)


def _false_discovery(value: np.ndarray, half_width: np.ndarray, num_runs: int) -> np.ndarray:
    """Rates [... R M] over R, from values and the half width of their 95 % intervals."""
    error = half_width / stats.t.ppf(0.975, num_runs - 1)
    p = 2 * stats.t.sf(np.abs(ratio(value, error)), num_runs - 1)
    return stats.false_discovery_control(p, axis=-2)
