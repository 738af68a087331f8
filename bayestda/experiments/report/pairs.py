"""Statistics of every train-test pair, as the explorer shows them; all from bayestda.statistics."""

import numpy as np
import xarray as xr

from bayestda import statistics


def pair_table(scores: xr.DataArray) -> xr.Dataset:
    """Mean score of each pair and how far it can be trusted.

    Args:
        scores: dims (seed, checkpoint, train, test).

    Returns:
        Dims (test, train): ``mean`` over seeds, ``half_width`` of Student's 95 % interval, ``q``
        (Benjamini-Hochberg over all pairs), ``sign_agreement`` (share of seeds that agree with the
        majority). All but the mean are not numbers with a single seed.
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


def most_extreme(tables: list[xr.Dataset], count: int) -> np.ndarray:
    """Places [M K] of the training examples that are extreme by some method, in their order.

    An example's rank is its best one by any method, by the size of its mean score.
    """
    ranks_TMN = [
        np.argsort(np.argsort(-np.abs(table["mean"].values), axis=1, kind="stable"), axis=1)
        for table in tables
    ]
    order_MN = np.argsort(np.min(ranks_TMN, axis=0), axis=1, kind="stable")
    return np.sort(order_MN[:, :count], axis=1)
