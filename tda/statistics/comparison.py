"""Do two methods agree? Correlations of what their scores are like, with intervals over seeds.

Letters of array names: T methods, S seeds, N train, M test, Q pairs (N x M flattened), W
weightings of the seeds, L the statistics of ``STATISTICS``.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pandas as pd
import xarray as xr

from tda.statistics.correlation import KINDS, SCOPES, correlation_matrix
from tda.statistics.intervals import Interval, bootstrap_interval, fisher_z, half_samples
from tda.statistics.significance import ratio, run_means, two_sided_p

STATISTICS = ("mean", "std", "p", "signal_to_noise")
SIGNED = ("mean", "signal_to_noise")
_WORK = 6_000_000  # pairs x resamples that keep the table of a large experiment below a minute


def correlations(
    scores: dict[str, xr.DataArray], num_resamples: int = 100, rng_seed: int = 0
) -> pd.DataFrame:
    """Correlations between all pairs of methods, with 95 % intervals over seeds.

    The interval is Student's on Fisher's scale, with the standard error of a half-sample
    bootstrap, which takes the same seeds from both methods, because they score the same models.

    Args:
        scores: per method, dims (seed, checkpoint, train, test) or without checkpoint; two
            methods are compared on the seeds that both have, and not at all if those are less
            than two.
        num_resamples: halved for large experiments (more than 60 000 pairs). Changes only
            the interval, by some per cent.
        rng_seed: of the resamples.

    Returns:
        method_a, method_b, statistic, kind, scope, value, low, high, n_seeds, n_pairs (of which
        those whose signal-to-noise ratio is infinite are left out there), n_resamples. Values are
        in the signs of the scores.
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
        in_b = set(runs[b]["seed"].values.tolist())
        common = tuple(seed for seed in runs[a]["seed"].values.tolist() if seed in in_b)
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
    weights_WS = np.full((1, num_seeds), 1 / num_seeds)
    if num_seeds > 2:
        drawn_WS = half_samples(num_resamples, num_seeds, rng)
        weights_WS = np.concatenate([weights_WS, drawn_WS])
    matrices = _each(lambda weights_S: _matrices(runs_TSNM, weights_S), weights_WS)
    value, resampled = matrices[0], matrices[1:]
    interval = bootstrap_interval(fisher_z(value), fisher_z(resampled), num_seeds)
    table = _tidy(list(runs), pairs, value, Interval(*np.tanh(interval)))
    return table.assign(n_seeds=num_seeds, n_pairs=num_pairs, n_resamples=len(resampled))


def statistic_maps(runs_TSNM: np.ndarray, weights_S: np.ndarray) -> np.ndarray:
    """Weighted mean, std (unbiased variance), p and signal-to-noise ratio: [L T N M].

    With equal weights these are the values of :func:`tda.statistics.student_t`, with unequal ones
    those of as many seeds as are effective, 1 / sum of squared weights.
    """
    num_methods, num_seeds, *shape = runs_TSNM.shape
    runs_TSQ = runs_TSNM.reshape(num_methods, num_seeds, -1)
    effective = 1 / float(np.sum(weights_S**2))
    # Seen from the first run, so that runs which agree exactly have a variance of exactly zero.
    first_TQ = runs_TSQ[:, 0]
    mean_TQ = weights_S @ (runs_TSQ - first_TQ[:, None]) + first_TQ
    variance_TQ = weights_S @ (runs_TSQ - mean_TQ[:, None]) ** 2
    std_TQ = np.sqrt(variance_TQ * effective / (effective - 1))
    ratio_TQ = ratio(mean_TQ, std_TQ)
    p_TQ = two_sided_p(ratio_TQ, effective)
    return np.stack([mean_TQ, std_TQ, p_TQ, ratio_TQ]).reshape(-1, num_methods, *shape)


def _matrices(runs_TSNM: np.ndarray, weights_S: np.ndarray) -> np.ndarray:
    """Correlations [statistic, kind, scope, T, T]."""
    taken = weights_S > 0
    maps_LTNM = statistic_maps(runs_TSNM[:, taken], weights_S[taken])
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
