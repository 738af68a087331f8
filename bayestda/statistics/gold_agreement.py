"""Agreement of scores with a gold standard over left-out examples, per test point."""

from collections.abc import Iterator

import numpy as np
import xarray as xr
from scipy import stats

from bayestda.statistics.intervals import jackknife_interval


def cosine(gold: xr.DataArray, scores: xr.DataArray) -> xr.DataArray:
    """Cosine over left-out examples; dims that only one of both has are kept.

    Not a number where a vector is 0.
    """
    product = xr.dot(gold, scores, dim="left_out")
    norms = xr.dot(gold, gold, dim="left_out") * xr.dot(scores, scores, dim="left_out")
    return product / np.sqrt(norms.where(norms > 0))


def spearman(gold: xr.DataArray, scores: xr.DataArray) -> xr.DataArray:
    """Spearman's correlation over left-out examples, as :func:`cosine`."""
    return cosine(*(centred(_ranks(values)) for values in (gold, scores)))


METRICS = {"cosine": cosine, "spearman": spearman}


def centred(values: xr.DataArray) -> xr.DataArray:
    """Less the mean over left-out examples."""
    return values - values.mean("left_out")


def summary(agreement: xr.DataArray) -> dict[str, float]:
    """Mean over final models and test points, and how sure it is.

    Args:
        agreement: dims (train_seed, test). Test points without one for all final models, of which
            a vector is 0, are left out.

    Returns:
        value; se_test, the standard error over test points (as Wei et al. 2025 give it) of the
        mean over final models; low and high, a 95 % jackknife interval over test points and final
        models, not a number with less than three of either; num_models, num_tests.
    """
    values_SM = agreement.transpose("train_seed", "test").values
    values_SM = values_SM[:, ~np.isnan(values_SM).any(0)]
    if values_SM.shape[1] < 2:
        nothing = dict.fromkeys(("value", "se_test", "low", "high"), float("nan"))
        return {**nothing, "num_models": len(values_SM), "num_tests": values_SM.shape[1]}
    by_test_M = values_SM.mean(0)
    left_out = [delete_one(values_SM.mean(1)), delete_one(by_test_M)]
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
    """The damping of the largest mean agreement, for each step: chosen by looking.

    One that is not defined for all final models is not chosen if there are others.
    """
    if "damping" not in agreement.dims:
        return agreement
    mean = agreement.mean("test").mean("train_seed", skipna=False)
    return agreement.isel(damping=mean.fillna(-np.inf).argmax("damping"))


def rows(agreement: xr.DataArray, **named: object) -> Iterator[dict[str, object]]:
    """A row of :func:`summary` for each step (and damping)."""
    dims = [dim for dim in ("damping", "step") if dim in agreement.dims]
    for place in np.ndindex(*(agreement.sizes[dim] for dim in dims)):
        one = agreement.isel(dict(zip(dims, place, strict=True)))
        known = {dim: float(one[dim]) for dim in ("damping", "step") if dim in one.coords}
        yield {**named, **known, **summary(one)}


def delete_one(values: np.ndarray) -> np.ndarray:
    """Means of all values but one each."""
    return (values.sum() - values) / max(len(values) - 1, 1)


def _ranks(values: xr.DataArray) -> xr.DataArray:
    axis = values.get_axis_num("left_out")
    return values.copy(data=stats.rankdata(values.values, axis=axis))


RELIABILITY = 0.9


def seed_noise(scores: xr.DataArray) -> xr.Dataset:
    r"""Sizes of signal and seed noise of scores, over left-out examples and test points.

    With v the mean over pairs of the variance over seeds, and s² the mean square of
    the seeds' mean score (about 0, the score of no effect) less v/S, which is what noise adds to
    it: the mean of S seeds has the reliability s²/(s² + v/S).

    Args:
        scores: dims (seed, ..., left_out, test); at least two seeds.

    Returns:
        ``signal`` s, a root mean square; ``noise`` √v, a standard deviation; and ``seeds_needed``,
        the least S whose mean has a reliability of .9; infinite where there is no signal. Dims
        (...).
    """
    pairs, count = ("left_out", "test"), scores.sizes["seed"]
    variance = scores.var("seed", ddof=1).mean(pairs)
    signal = (scores.mean("seed") ** 2).mean(pairs) - variance / count
    needed = RELIABILITY / (1 - RELIABILITY) * variance / signal.where(signal > 0)
    return xr.Dataset(
        {
            "signal": np.sqrt(signal.clip(min=0)),
            "noise": np.sqrt(variance),
            "seeds_needed": np.ceil(needed.clip(min=1).fillna(np.inf)),
        }
    )


def order_agreement(scores: xr.DataArray) -> xr.DataArray:
    """Cosine over left-out examples between scores of two seeds, mean over pairs and test points.

    Args:
        scores: dims (seed, ..., left_out, test); at least two seeds. Test points whose scores are
            all 0 for a seed have no cosine and are left out of the mean.
    """
    unit = scores / np.sqrt((scores**2).sum("left_out"))
    count, summed = scores.sizes["seed"], unit.sum("seed", skipna=False)
    total = (summed**2).sum("left_out", skipna=False)
    return ((total - count) / (count * (count - 1))).mean("test")
