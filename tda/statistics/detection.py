"""How well a number tells one kind of example from another."""

import numpy as np
from scipy import stats


def area_under_curve(values: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """The area under the receiver operating characteristic [S R].

    The share of pairs of a positive and a negative example in which the positive one has the larger
    value; ties count half (Mann and Whitney).

    Args:
        values: [S R N] of each example.
        positive: whether it is of the kind to be found [S N]; some are and some are not.
    """
    rank_SRN = stats.rankdata(values, axis=-1)
    count_S1 = positive.sum(-1)[:, None]
    total_SR = (rank_SRN * positive[:, None]).sum(-1)
    pairs_S1 = count_S1 * (positive.shape[-1] - count_S1)
    return (total_SR - count_S1 * (count_S1 + 1) / 2) / pairs_S1
