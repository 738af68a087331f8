"""How well scores predict the truth when what is chosen about them is chosen on other seeds."""

from collections.abc import Hashable, Mapping
from itertools import combinations

import numpy as np
import pandas as pd
import xarray as xr

from bayestda.errors import UserError


def chosen_on_other_half(
    candidates: Mapping[Hashable, xr.DataArray], truth: xr.DataArray
) -> pd.DataFrame:
    """The best of several scores by one half of the seeds, judged by the other half.

    Better is the larger Pearson correlation, over all train-test pairs, between mean scores and
    mean truth of the same seeds. One candidate alone is simply judged on every half.

    Args:
        candidates: scores by a name or value, such as damping: dims (seed, ...).
        truth: dims (seed, ...), the same seeds and pairs.

    Returns:
        A row per choice of a half of the seeds, of an odd number the smaller half: ``chosen``, and
        ``value``, its correlation on the seeds that did not choose.

    Raises:
        UserError: less than two seeds, or seeds or pairs differ.
    """
    num_seeds = truth.sizes["seed"]
    if num_seeds < 2:
        raise UserError("to judge on other seeds takes two seeds or more")
    products = {name: _Products(scores, truth) for name, scores in candidates.items()}
    rows = []
    for half in combinations(range(num_seeds), num_seeds // 2):
        other = [seed for seed in range(num_seeds) if seed not in half]
        on_half = {name: own.pearson(half) for name, own in products.items()}
        chosen = max(on_half, key=on_half.__getitem__)
        rows.append({"chosen": chosen, "value": products[chosen].pearson(other)})
    return pd.DataFrame(rows)


class _Products:
    """Inner products [S S] of centred maps: all that a correlation of mean maps needs."""

    def __init__(self, scores: xr.DataArray, truth: xr.DataArray):
        scores, truth = xr.align(scores, truth, join="exact")
        a_SQ, b_SQ = (_centred(array) for array in (scores.transpose(*truth.dims), truth))
        self.aa_SS, self.ab_SS, self.bb_SS = a_SQ @ a_SQ.T, a_SQ @ b_SQ.T, b_SQ @ b_SQ.T

    def pearson(self, seeds) -> float:
        """Correlation of the mean maps over some seeds."""
        aa, ab, bb = (m[np.ix_(seeds, seeds)].sum() for m in (self.aa_SS, self.ab_SS, self.bb_SS))
        return float(ab / np.sqrt(aa * bb))


def _centred(array: xr.DataArray) -> np.ndarray:
    values_SQ = array.transpose("seed", ...).values.reshape(array.sizes["seed"], -1)
    return values_SQ - values_SQ.mean(axis=1, keepdims=True, dtype=float)
