"""Correlations of maps over train-test pairs.

Letters of array names: T methods, N train, M test, Q pairs (N x M flattened), G groups of pairs
within which one correlates.
"""

from itertools import combinations_with_replacement

import numpy as np
from scipy import stats

KINDS = ("pearson", "spearman")
SCOPES = ("all_pairs", "per_test")


def correlation_matrix(maps_TNM: np.ndarray, kind: str, scope: str) -> np.ndarray:
    """Correlations [T T] between maps.

    Args:
        maps_TNM: one map per method. Pairs (``per_test``: test points) with a value that is not
            finite are left out of its method's correlations.
        kind: ``pearson`` or ``spearman`` (tied values share their mean rank).
        scope: ``all_pairs``, or ``per_test``: over training points, averaged over the test points
            where neither map is constant.

    Returns:
        Not a number where a map is constant.
    """
    if len(maps_TNM) > 2 and not np.isfinite(maps_TNM).all():
        return _two_by_two(maps_TNM, kind, scope)
    values_GTQ = _groups(maps_TNM, scope)
    if kind == "spearman":
        values_GTQ = ranks(values_GTQ)
    # Seen from the first value, so that a constant map has a norm of exactly zero.
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
    """As :func:`correlation_matrix`; what is left out differs from cell to cell."""
    matrix_TT = np.empty((len(maps_TNM),) * 2)
    for a, b in combinations_with_replacement(range(len(maps_TNM)), 2):
        cell = correlation_matrix(maps_TNM[[a, b]], kind, scope)[0, 1]
        matrix_TT[a, b] = matrix_TT[b, a] = cell
    return matrix_TT


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, from 0; ties share their mean rank."""
    order = np.argsort(values, axis=-1)
    ordered = np.take_along_axis(values, order, axis=-1)
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
