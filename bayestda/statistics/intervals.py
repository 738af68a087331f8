"""Estimate intervals of 95 % over seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

COVERAGE = 0.95


class Interval(NamedTuple):
    """Hold the lower and upper end, in the estimate's shape; NaN where there is no interval."""

    low: np.ndarray
    high: np.ndarray


def t_interval(values: xr.DataArray) -> xr.Dataset:
    """Return Student's interval of the mean over seeds.

    Args:
        values: One value per independent run, dims (seed, ...).

    Returns:
        The variables mean, low and high, dims (...).
    """
    num_seeds = values.sizes["seed"]
    mean = values.mean("seed", skipna=False)
    error = values.std("seed", ddof=1, skipna=False) / np.sqrt(num_seeds)
    half_width = _quantile(num_seeds - 1) * error
    return xr.Dataset({"mean": mean, "low": mean - half_width, "high": mean + half_width})


def jackknife_interval(estimate: np.ndarray, left_out: Sequence[np.ndarray]) -> Interval:
    """Return Student's interval from estimates with one level of each factor left out.

    The variance is the sum over factors of the delete-one jackknife variance. For crossed factors
    this counts their interaction twice, so intervals err on the wide side. Degrees of freedom are
    Satterthwaite's. A bootstrap of few levels would draw duplicates, which biases variance
    components towards zero; leaving out does not.

    Args:
        estimate: Estimate from all levels, of any shape.
        left_out: Estimates ``[levels, *shape of estimate]`` without each level, for each factor.

    Returns:
        The interval; NaN if there is no factor, or one has less than three levels.
    """
    estimate = np.asarray(estimate, dtype=np.float64)
    if min(map(len, left_out), default=0) < 3:
        return Interval(np.full_like(estimate, np.nan), np.full_like(estimate, np.nan))
    degrees = [len(replicates) - 1 for replicates in left_out]
    variances = [
        np.sum((replicates - replicates.mean(0)) ** 2, axis=0) * degree / (degree + 1)
        for replicates, degree in zip(left_out, degrees, strict=True)
    ]
    # Satterthwaite: the degrees of freedom of a sum of variances v_f with degrees d_f are
    # (Σ v_f)² / Σ (v_f² / d_f).
    total = np.sum(variances, axis=0)
    spread = sum(v**2 / degree for v, degree in zip(variances, degrees, strict=True))
    pooled_degrees = np.full_like(estimate, min(degrees))
    np.divide(total**2, spread, out=pooled_degrees, where=spread > 0)
    half_width = _quantile(pooled_degrees) * np.sqrt(total)
    return Interval(estimate - half_width, estimate + half_width)


def half_samples(num_resamples: int, num_seeds: int, rng: np.random.Generator) -> np.ndarray:
    """Return weights [resamples, seeds] of random halves of the seeds, rounded up.

    This is a bootstrap without replacement. Halves vary about the whole as much as bootstrap
    samples do, and all of them have the same number of different seeds. With repeated seeds (or
    Dirichlet weights) that number varies, and with it the noise in a mean map and its
    correlations. Over many pairs this makes intervals many times too wide.

    Args:
        num_resamples: Number of halves.
        num_seeds: Number of seeds.
        rng: Generator that draws them.
    """
    # The argsort of random numbers is a random permutation in each row.
    in_half = np.argsort(rng.random((num_resamples, num_seeds)), axis=1) < (num_seeds + 1) // 2
    return in_half / in_half.sum(axis=1, keepdims=True)


def bootstrap_interval(estimate: np.ndarray, resampled: np.ndarray, num_seeds: int) -> Interval:
    r"""Return Student's interval around an estimate, from estimates on :func:`half_samples`.

    The standard error is their standard deviation times :math:`\sqrt{m / (n - m)}`, which is
    exact for a mean of m of n seeds, and 1 for halves (Shao and Wu 1989). Percentiles would be
    wrong here: half the seeds give noisier maps, so that resampled correlations are biased.

    Args:
        estimate: Estimate from all seeds, of any shape.
        resampled: Estimates from half-samples ``[resamples, *shape of estimate]``.
        num_seeds: Number n of seeds; with less than three the ends are NaN.
    """
    estimate = np.asarray(estimate, dtype=np.float64)
    if num_seeds < 3:
        return Interval(np.full_like(estimate, np.nan), np.full_like(estimate, np.nan))
    half_size = (num_seeds + 1) // 2
    error = resampled.std(axis=0, ddof=1) * np.sqrt(half_size / (num_seeds - half_size))
    half_width = _quantile(num_seeds - 1) * error
    return Interval(estimate - half_width, estimate + half_width)


def fisher_z(correlation: np.ndarray) -> np.ndarray:
    """Return Fisher's transformation, on which a correlation's error is nearly symmetric."""
    # Clipped so that correlations of exactly ±1 stay finite.
    return np.arctanh(np.clip(correlation, -1 + 1e-12, 1 - 1e-12))


def _quantile(degrees: np.ndarray | int) -> np.ndarray:
    return stats.t.ppf(0.5 + COVERAGE / 2, degrees)
