"""Measure the agreement of scores with a gold standard over left-out examples, per test point."""

from collections.abc import Iterator

import numpy as np
import xarray as xr
from scipy import stats

from bayestda.statistics.intervals import jackknife_interval


def cosine(gold: xr.DataArray, scores: xr.DataArray) -> xr.DataArray:
    """Return the cosine over left-out examples; NaN where a vector is 0.

    Args:
        gold: Gold standard with the dim left_out.
        scores: Scores with the dim left_out. Dims that only one of the two has are kept.
    """
    product = xr.dot(gold, scores, dim="left_out")
    norms = xr.dot(gold, gold, dim="left_out") * xr.dot(scores, scores, dim="left_out")
    return product / np.sqrt(norms.where(norms > 0))


def spearman(gold: xr.DataArray, scores: xr.DataArray) -> xr.DataArray:
    """Return Spearman's correlation over left-out examples; arguments as in :func:`cosine`."""
    return cosine(*(centred(_ranks(values)) for values in (gold, scores)))


METRICS = {"cosine": cosine, "spearman": spearman}


def centred(values: xr.DataArray) -> xr.DataArray:
    """Return the values less their mean over left-out examples."""
    return values - values.mean("left_out")


def summary(agreement: xr.DataArray) -> dict[str, float]:
    """Return the mean agreement over final models and test points, with its uncertainty.

    Args:
        agreement: Agreement with dims (train_seed, test). Test points where it is NaN for some
            final model are left out.

    Returns:
        ``value``, the mean; ``se_test``, the standard error over test points of the mean over
        final models (as Wei et al. 2025 give it); ``low`` and ``high``, a 95 % jackknife interval
        over test points and final models, NaN with less than three of either; ``num_models`` and
        ``num_tests``.
    """
    values_SM = agreement.transpose("train_seed", "test").values
    values_SM = values_SM[:, ~np.isnan(values_SM).any(0)]
    if values_SM.shape[1] < 2:
        nothing = dict.fromkeys(("value", "se_test", "low", "high"), float("nan"))
        return {**nothing, "num_models": len(values_SM), "num_tests": values_SM.shape[1]}
    by_test_M = values_SM.mean(0)
    left_out = [delete_one(values_SM.mean(1)), delete_one(by_test_M)]  # models, test points
    interval = jackknife_interval(values_SM.mean(), left_out)
    return {
        "value": float(values_SM.mean()),
        "se_test": float(by_test_M.std(ddof=1) / len(by_test_M) ** 0.5),
        "low": float(interval.low),
        "high": float(interval.high),
        "num_models": len(values_SM),
        "num_tests": values_SM.shape[1],
    }


def best_damping(agreement: xr.DataArray) -> xr.DataArray:
    """Select the damping with the largest mean agreement, for each step.

    The choice looks at the gold standard, so the result is optimistic. A damping whose agreement
    is NaN for some final model is chosen only if there is no other.
    """
    if "damping" not in agreement.dims:
        return agreement
    mean = agreement.mean("test").mean("train_seed", skipna=False)
    return agreement.isel(damping=mean.fillna(-np.inf).argmax("damping"))


def rows(agreement: xr.DataArray, **named: object) -> Iterator[dict[str, object]]:
    """Yield a row of :func:`summary` for each step (and damping).

    Args:
        agreement: Agreement with dims (train_seed, test) and possibly step and damping.
        named: Further columns, equal in all rows.
    """
    dims = [dim for dim in ("damping", "step") if dim in agreement.dims]
    for indices in np.ndindex(*(agreement.sizes[dim] for dim in dims)):
        cell = agreement.isel(dict(zip(dims, indices, strict=True)))
        settings = {dim: float(cell[dim]) for dim in ("damping", "step") if dim in cell.coords}
        yield {**named, **settings, **summary(cell)}


def delete_one(values: np.ndarray) -> np.ndarray:
    """Return the means of all values but one, leaving out each in turn."""
    return (values.sum() - values) / max(len(values) - 1, 1)


def _ranks(values: xr.DataArray) -> xr.DataArray:
    axis = values.get_axis_num("left_out")
    return values.copy(data=stats.rankdata(values.values, axis=axis))


RELIABILITY = 0.9  # of a mean score, at which seed_noise counts the seeds needed


def seed_noise(scores: xr.DataArray) -> xr.Dataset:
    r"""Return the sizes of signal and seed noise of scores, over left-out examples and test points.

    The noise v is the mean over pairs of the variance over seeds. The signal s² is the mean square
    of the seeds' mean score (about 0, the score of no effect) less v/S, which noise adds to it.
    The mean of S seeds then has the reliability s²/(s² + v/S).

    Args:
        scores: Scores with dims (seed, ..., left_out, test) and at least two seeds.

    Returns:
        The variables ``signal``, a root mean square s; ``noise``, a standard deviation √v; and
        ``seeds_needed``, the least S whose mean has a reliability of .9, infinite where there is
        no signal. Dims (...).
    """
    pairs, count = ("left_out", "test"), scores.sizes["seed"]
    variance = scores.var("seed", ddof=1).mean(pairs)
    signal = (scores.mean("seed") ** 2).mean(pairs) - variance / count
    # A mean over S seeds has the reliability s² / (s² + v / S), here solved for S.
    needed = RELIABILITY / (1 - RELIABILITY) * variance / signal.where(signal > 0)
    return xr.Dataset(
        {
            "signal": np.sqrt(signal.clip(min=0)),
            "noise": np.sqrt(variance),
            "seeds_needed": np.ceil(needed.clip(min=1).fillna(np.inf)),
        }
    )


def order_agreement(scores: xr.DataArray) -> xr.DataArray:
    """Return the cosine between scores of two seeds, averaged over pairs and test points.

    Args:
        scores: Scores with dims (seed, ..., left_out, test) and at least two seeds. The cosine is
            over left-out examples. Test points whose scores are all 0 for a seed are left out.
    """
    unit = scores / np.sqrt((scores**2).sum("left_out"))
    # The squared norm of the sum of unit vectors is the sum of the cosines of all ordered pairs;
    # the pairs of a seed with itself, count in number, contribute 1 each.
    count, summed = scores.sizes["seed"], unit.sum("seed", skipna=False)
    total = (summed**2).sum("left_out", skipna=False)
    return ((total - count) / (count * (count - 1))).mean("test")
