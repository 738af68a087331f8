"""Correlate maps of scores over train-test pairs.

Letters of array names: T methods, N train, M test, Q pairs (N x M flattened), G groups of pairs
(correlations are taken within a group), S seeds, W resamples of the seeds, L statistics.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, combinations_with_replacement

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from bayestda.statistics.alignment import run_means
from bayestda.statistics.intervals import Interval, bootstrap_interval, fisher_z, half_samples
from bayestda.statistics.significance import ratio, two_sided_p

KINDS = ("pearson", "spearman")
SCOPES = ("all_pairs", "per_test")


def correlation_matrix(maps_TNM: np.ndarray, kind: str, scope: str) -> np.ndarray:
    """Return the correlations [T T] between maps; NaN where a map is constant.

    Args:
        maps_TNM: One map per method. Pairs (with ``per_test`` test points) that have a value that
            is not finite are left out of their method's correlations.
        kind: ``pearson`` or ``spearman`` (tied values share their mean rank).
        scope: ``all_pairs``; or ``per_test``, over training points, averaged over the test points
            where neither map is constant.
    """
    if len(maps_TNM) > 2 and not np.isfinite(maps_TNM).all():
        return _two_by_two(maps_TNM, kind, scope)
    values_GTQ = _groups(maps_TNM, scope)
    if kind == "spearman":
        values_GTQ = ranks(values_GTQ)
    # The first value is taken off first, so that a constant map has a norm of exactly zero.
    values_GTQ = values_GTQ - values_GTQ[..., :1]
    values_GTQ -= values_GTQ.mean(axis=-1, keepdims=True)
    norm_GT1 = np.linalg.norm(values_GTQ, axis=-1, keepdims=True)
    unit_GTQ = np.divide(
        values_GTQ, norm_GT1, out=np.full_like(values_GTQ, np.nan), where=norm_GT1 > 0
    )
    matrix_GTT = unit_GTQ @ unit_GTQ.swapaxes(-1, -2)
    defined = np.isfinite(matrix_GTT)
    total, count = np.where(defined, matrix_GTT, 0).sum(0), defined.sum(0)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _two_by_two(maps_TNM: np.ndarray, kind: str, scope: str) -> np.ndarray:
    """Correlation matrix of maps with values that are not finite, left out for each two maps."""
    matrix_TT = np.empty((len(maps_TNM),) * 2)
    for a, b in combinations_with_replacement(range(len(maps_TNM)), 2):
        cell = correlation_matrix(maps_TNM[[a, b]], kind, scope)[0, 1]
        matrix_TT[a, b] = matrix_TT[b, a] = cell
    return matrix_TT


def ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks along the last axis, from 0; ties share their mean rank."""
    order = np.argsort(values, axis=-1)
    ordered = np.take_along_axis(values, order, axis=-1)
    # Without ties the order already holds the ranks, and scipy's slower way is not needed.
    if (ordered[..., 1:] == ordered[..., :-1]).any():
        return stats.rankdata(values, axis=-1) - 1
    ranked = np.empty(values.shape)
    positions = np.broadcast_to(np.arange(values.shape[-1], dtype=np.float64), values.shape)
    np.put_along_axis(ranked, order, positions, axis=-1)
    return ranked


def _groups(maps_TNM: np.ndarray, scope: str) -> np.ndarray:
    """[1 T Q] of all pairs, or [M T N]: one group per test point; finite values only."""
    if scope == "all_pairs":
        values_TQ = maps_TNM.reshape(len(maps_TNM), -1)
        return values_TQ[:, np.isfinite(values_TQ).all(0)][None]
    values_MTN = np.ascontiguousarray(np.moveaxis(maps_TNM, 2, 0))
    return values_MTN[np.isfinite(values_MTN).all((1, 2))]


STATISTICS = ("mean", "std", "p", "signal_to_noise")


SIGNED = ("mean", "signal_to_noise")


_WORK = 6_000_000  # pairs x resamples: bounds the time of a large experiment's table to a minute


def correlations(
    scores: dict[str, xr.DataArray], num_resamples: int = 100, rng_seed: int = 0
) -> pd.DataFrame:
    """Return correlations between all pairs of methods, with 95 % intervals over seeds.

    The interval is Student's on Fisher's scale. Its standard error comes from a half-sample
    bootstrap, which takes the same seeds from both methods, because they score the same models.

    Args:
        scores: Scores with dims (seed, checkpoint, train, test), or without checkpoint, by
            method. Two methods are compared on the seeds that both have, if there are two or more.
        num_resamples: Number of resamples of the seeds; halved for large experiments (more than
            60 000 pairs). Changes only the interval, by some per cent.
        rng_seed: Seed of the resamples.

    Returns:
        A row per pair of methods, statistic, kind and scope, with the columns method_a, method_b,
        statistic, kind, scope, value, low, high, n_seeds, n_pairs and n_resamples. Pairs with an
        infinite signal-to-noise ratio count in n_pairs, but are left out of its correlation.
        Values are in the signs of the scores.
    """
    runs = {method: run_means(values) for method, values in scores.items()}
    tables = [
        _between(
            {method: runs[method].sel(seed=list(seeds)) for method in sorted(set(sum(pairs, ())))},
            pairs,
            num_resamples,
            np.random.default_rng(rng_seed),
        )
        for seeds, pairs in _by_common_seeds(runs).items()
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _by_common_seeds(runs: dict[str, xr.DataArray]) -> dict[tuple, list[tuple[str, str]]]:
    """Pairs of methods, grouped by the seeds that both have."""
    groups: dict[tuple, list[tuple[str, str]]] = {}
    for a, b in combinations(runs, 2):
        seeds_b = set(runs[b]["seed"].values.tolist())
        common = tuple(seed for seed in runs[a]["seed"].values.tolist() if seed in seeds_b)
        if len(common) > 1:
            groups.setdefault(common, []).append((a, b))
    return groups


def _between(
    runs: dict[str, xr.DataArray],
    pairs: list[tuple[str, str]],
    num_resamples: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Table of methods that share their seeds."""
    aligned = xr.align(*runs.values(), join="exact")
    runs_TSNM = np.stack([run.transpose("seed", "train", "test").values for run in aligned])
    num_seeds, num_pairs = runs_TSNM.shape[1], runs_TSNM[0, 0].size
    num_resamples = int(np.clip(_WORK // num_pairs, num_resamples // 2, num_resamples))
    # The first row weights all seeds equally and gives the value; the others are resamples.
    weights_WS = np.full((1, num_seeds), 1 / num_seeds)
    if num_seeds > 2:
        halves_WS = half_samples(num_resamples, num_seeds, rng)
        weights_WS = np.concatenate([weights_WS, halves_WS])
    matrices = _each(lambda weights_S: _matrices(runs_TSNM, weights_S), weights_WS)
    value, resampled = matrices[0], matrices[1:]
    interval = bootstrap_interval(fisher_z(value), fisher_z(resampled), num_seeds)
    table = _tidy(list(runs), pairs, value, Interval(*np.tanh(interval)))
    return table.assign(n_seeds=num_seeds, n_pairs=num_pairs, n_resamples=len(resampled))


def statistic_maps(runs_TSNM: np.ndarray, weights_S: np.ndarray) -> np.ndarray:
    """Return weighted mean, std (unbiased variance), p and signal-to-noise ratio [L T N M].

    With equal weights these are the values of :func:`bayestda.statistics.student_t`. Unequal
    weights count as 1 / (sum of squared weights) seeds, their effective number.

    Args:
        runs_TSNM: One map per method and seed.
        weights_S: Weights of the seeds, of sum 1.
    """
    num_methods, num_seeds, *shape = runs_TSNM.shape
    runs_TSQ = runs_TSNM.reshape(num_methods, num_seeds, -1)
    effective = 1 / float(np.sum(weights_S**2))
    # The first run is taken off first, so that runs that agree have a variance of exactly zero.
    first_TQ = runs_TSQ[:, 0]
    mean_TQ = weights_S @ (runs_TSQ - first_TQ[:, None]) + first_TQ
    variance_TQ = weights_S @ (runs_TSQ - mean_TQ[:, None]) ** 2
    std_TQ = np.sqrt(variance_TQ * effective / (effective - 1))
    ratio_TQ = ratio(mean_TQ, std_TQ)
    p_TQ = two_sided_p(ratio_TQ, effective)
    return np.stack([mean_TQ, std_TQ, p_TQ, ratio_TQ]).reshape(-1, num_methods, *shape)


def _matrices(runs_TSNM: np.ndarray, weights_S: np.ndarray) -> np.ndarray:
    """Correlations [statistic, kind, scope, T, T]."""
    has_weight_S = weights_S > 0
    maps_LTNM = statistic_maps(runs_TSNM[:, has_weight_S], weights_S[has_weight_S])
    return np.array(
        [
            [[correlation_matrix(maps, kind, scope) for scope in SCOPES] for kind in KINDS]
            for maps in maps_LTNM
        ]
    )


def _each(function: Callable[[np.ndarray], np.ndarray], inputs: np.ndarray) -> np.ndarray:
    # Sorting and arithmetic of large arrays run outside the interpreter's lock: threads do help.
    with ThreadPoolExecutor(min(len(inputs), os.cpu_count() or 1, 8)) as pool:
        return np.stack(list(pool.map(function, inputs)))


def _tidy(
    methods: list[str], pairs: list[tuple[str, str]], value: np.ndarray, interval: Interval
) -> pd.DataFrame:
    kinds = pd.MultiIndex.from_product(
        [STATISTICS, KINDS, SCOPES], names=["statistic", "kind", "scope"]
    ).to_frame(index=False)
    cells = [(a, b, (..., methods.index(a), methods.index(b))) for a, b in pairs]
    return pd.concat(
        [
            kinds.assign(
                method_a=a,
                method_b=b,
                value=value[cell].ravel(),
                low=interval.low[cell].ravel(),
                high=interval.high[cell].ravel(),
            )
            for a, b, cell in cells
        ],
        ignore_index=True,
    )[["method_a", "method_b", *kinds.columns, "value", "low", "high"]]
