"""Judge a choice, such as a damping, on other seeds than those that made it."""

from collections.abc import Hashable, Mapping
from itertools import combinations

import numpy as np
import pandas as pd
import xarray as xr

from bayestda.errors import UserError


def chosen_on_other_half(
    candidates: Mapping[Hashable, xr.DataArray], truth: xr.DataArray
) -> pd.DataFrame:
    """Choose the best of several scores on one half of the seeds, and judge it on the other half.

    Better is the larger Pearson correlation, over all train-test pairs, between mean scores and
    mean truth of the same seeds. A single candidate is judged on every half.

    Args:
        candidates: Scores with dims (seed, ...), by a name or value such as the damping.
        truth: Scores from retraining, with the same seeds and pairs.

    Returns:
        A row per half of the seeds that chooses (of an odd number the smaller half): ``chosen``,
        and ``value``, its correlation on the seeds that did not choose.

    Raises:
        UserError: There are less than two seeds.
        ValueError: Seeds or pairs differ.
    """
    num_seeds = truth.sizes["seed"]
    if num_seeds < 2:
        raise UserError("judging a choice on other seeds needs two seeds or more")
    products = {name: _Products(scores, truth) for name, scores in candidates.items()}
    rows = []
    for half in combinations(range(num_seeds), num_seeds // 2):
        other = [seed for seed in range(num_seeds) if seed not in half]
        correlations = {name: product.pearson(half) for name, product in products.items()}
        chosen = max(correlations, key=correlations.__getitem__)
        rows.append({"chosen": chosen, "value": products[chosen].pearson(other)})
    return pd.DataFrame(rows)


class _Products:
    """Keep inner products [S S] of centred maps, which give the correlation of any mean maps."""

    def __init__(self, scores: xr.DataArray, truth: xr.DataArray):
        scores, truth = xr.align(scores, truth, join="exact")
        a_SQ, b_SQ = (_centred(array) for array in (scores.transpose(*truth.dims), truth))
        self.aa_SS, self.ab_SS, self.bb_SS = a_SQ @ a_SQ.T, a_SQ @ b_SQ.T, b_SQ @ b_SQ.T

    def pearson(self, seeds) -> float:
        """Return the correlation of the mean maps over some seeds."""
        # The product of two mean maps is the mean of the products of single maps.
        aa, ab, bb = (m[np.ix_(seeds, seeds)].sum() for m in (self.aa_SS, self.ab_SS, self.bb_SS))
        return float(ab / np.sqrt(aa * bb))


def _centred(array: xr.DataArray) -> np.ndarray:
    values_SQ = array.transpose("seed", ...).values.reshape(array.sizes["seed"], -1)
    return values_SQ - values_SQ.mean(axis=1, keepdims=True, dtype=float)
