"""Intervals of 95 % over seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

COVERAGE = 0.95


class Interval(NamedTuple):
    """Lower and upper end, of the shape of the estimate; not a number where none can be given."""

    low: np.ndarray
    high: np.ndarray


def t_interval(values: xr.DataArray) -> xr.Dataset:
    """Student's interval of the mean over seeds.

    Args:
        values: dims (seed, ...), one value per independent run.

    Returns:
        mean, low, high; dims (...).
    """
    num_seeds = values.sizes["seed"]
    mean = values.mean("seed", skipna=False)
    half = _quantile(num_seeds - 1) * values.std("seed", ddof=1, skipna=False) / np.sqrt(num_seeds)
    return xr.Dataset({"mean": mean, "low": mean - half, "high": mean + half})


def jackknife_interval(estimate: np.ndarray, left_out: Sequence[np.ndarray]) -> Interval:
    """Student's interval from the estimates with one level of each factor left out.

    The variance is the sum over factors of the delete-one jackknife variance (for crossed factors
    this counts their interaction twice, so it errs on the wide side); degrees of freedom are
    Satterthwaite's. A bootstrap of few levels would draw duplicates, which biases variance
    components towards zero; leaving out does not.

    Args:
        estimate: any shape.
        left_out: per factor an array ``[levels, *shape of estimate]``.

    Returns:
        Ends that are not numbers if a factor has less than three levels, or there is none.
    """
    estimate = np.asarray(estimate, dtype=np.float64)
    if min(map(len, left_out), default=0) < 3:
        return Interval(np.full_like(estimate, np.nan), np.full_like(estimate, np.nan))
    degrees = [len(replicates) - 1 for replicates in left_out]
    variances = [
        np.sum((replicates - replicates.mean(0)) ** 2, axis=0) * degree / (degree + 1)
        for replicates, degree in zip(left_out, degrees, strict=True)
    ]
    total = np.sum(variances, axis=0)
    spread = sum(v**2 / degree for v, degree in zip(variances, degrees, strict=True))
    pooled = np.full_like(estimate, min(degrees))
    np.divide(total**2, spread, out=pooled, where=spread > 0)
    half = _quantile(pooled) * np.sqrt(total)
    return Interval(estimate - half, estimate + half)


def half_samples(num_resamples: int, num_seeds: int, rng: np.random.Generator) -> np.ndarray:
    """Weights [resamples, seeds] of a bootstrap without replacement: random halves of the seeds.

    An odd number is rounded up. Halves have the variance about the whole that a bootstrap has,
    and all of them hold the same number of different seeds. Repeated seeds (or Dirichlet weights)
    let that number vary, and with it the noise in a mean map and so its correlations: over many
    pairs that makes intervals many times too wide.
    """
    chosen = np.argsort(rng.random((num_resamples, num_seeds)), axis=1) < (num_seeds + 1) // 2
    return chosen / chosen.sum(axis=1, keepdims=True)


def bootstrap_interval(estimate: np.ndarray, resampled: np.ndarray, num_seeds: int) -> Interval:
    r"""Student's interval around the estimate, from estimates on :func:`half_samples`.

    The standard error is their standard deviation times :math:`\sqrt{m / (n - m)}`, which is
    exact for a mean of m of n seeds, and 1 for halves (Shao and Wu 1989). The interval is not
    taken from percentiles: half the seeds give noisier maps, so that resampled correlations lie
    systematically off.

    Args:
        estimate: any shape.
        resampled: ``[resamples, *shape of estimate]``.
        num_seeds: n; with less than three the ends are not numbers.
    """
    estimate = np.asarray(estimate, dtype=np.float64)
    if num_seeds < 3:
        return Interval(np.full_like(estimate, np.nan), np.full_like(estimate, np.nan))
    chosen = (num_seeds + 1) // 2
    error = resampled.std(axis=0, ddof=1) * np.sqrt(chosen / (num_seeds - chosen))
    half = _quantile(num_seeds - 1) * error
    return Interval(estimate - half, estimate + half)


def fisher_z(correlation: np.ndarray) -> np.ndarray:
    """Fisher's transformation, on which a correlation's error is nearly symmetric."""
    return np.arctanh(np.clip(correlation, -1 + 1e-12, 1 - 1e-12))


def _quantile(degrees: np.ndarray | int) -> np.ndarray:
    return stats.t.ppf(0.5 + COVERAGE / 2, degrees)
