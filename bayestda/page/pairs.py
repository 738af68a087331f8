"""Compute the statistics of every train-test pair that the explorer shows."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from bayestda import statistics


def pair_table(scores: xr.DataArray) -> xr.Dataset:
    """Return the mean score of each pair and how far it can be trusted.

    Args:
        scores: Scores of dims (seed, checkpoint, train, test).

    Returns:
        Variables of dims (test, train): ``mean`` over seeds, ``half_width`` of Student's 95 %
        interval, ``q`` (Benjamini-Hochberg over all pairs), ``sign_agreement`` (share of seeds
        with the majority's sign). With a single seed all but the mean are not numbers.
    """
    runs = statistics.run_means(scores)
    mean = runs.mean("seed")
    if runs.sizes["seed"] > 1:
        interval = statistics.t_interval(runs)
        variables = {
            "mean": mean,
            "half_width": interval["high"] - interval["mean"],
            "q": statistics.benjamini_hochberg(statistics.student_t(runs)["p"]),
            "sign_agreement": statistics.sign_agreement(runs),
        }
    else:
        unknown = xr.full_like(mean, np.nan)
        names = ("half_width", "q", "sign_agreement")
        variables = {"mean": mean, **dict.fromkeys(names, unknown)}
    return xr.Dataset(variables).drop_vars("seed", errors="ignore").transpose("test", "train")


def most_extreme(tables: Sequence[xr.Dataset], count: int) -> np.ndarray:
    """Return, for each test example, the places [M K] of the ``count`` most extreme train examples.

    An example's rank is its best one by any method, by the size of its mean score.
    """
    order_MN = np.argsort(_best_ranks(tables), axis=1, kind="stable")
    return np.sort(order_MN[:, :count], axis=1)


def shortlist(tables: Sequence[xr.Dataset], count: int) -> np.ndarray:
    """Return the places [N'] of ``count`` training examples that are extreme for a test example."""
    best_N = _best_ranks(tables).min(0)
    return np.sort(np.argsort(best_N, kind="stable")[:count])


def _best_ranks(tables: Sequence[xr.Dataset]) -> np.ndarray:
    """Return the best rank [M N] of each pair by any method; 0 is the largest mean score."""
    ranks_TMN = [
        np.argsort(np.argsort(-np.abs(table["mean"].values), axis=1, kind="stable"), axis=1)
        for table in tables
    ]
    return np.min(ranks_TMN, axis=0)
