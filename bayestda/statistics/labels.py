"""What scores say beyond the labels of the two examples.

A training example of a test example's class mostly helps it, one of another class mostly harms it.
That much can be known without any attribution, so two methods may agree on it and on little else.
"""

import numpy as np
import xarray as xr

from bayestda.errors import UserError


def is_labelled(scores: xr.DataArray) -> bool:
    """Whether the labels of training and test examples are known."""
    return {"train_label", "test_label"} <= set(scores.coords)


def within_labels(scores: xr.DataArray) -> xr.DataArray:
    """Scores less their mean over all pairs with the same training label and the same test label.

    Args:
        scores: dims (..., train, test) with the coordinates ``train_label`` and ``test_label``.

    Raises:
        UserError: labels are not among the coordinates.
    """
    if not is_labelled(scores):
        raise UserError("scores need the coordinates train_label and test_label")
    scores = scores.transpose(..., "train", "test")
    values = scores.values.astype(np.float64)
    train_NL, test_ML = (_averaging(scores[name].values) for name in ("train_label", "test_label"))
    means = train_NL.T @ values @ test_ML
    return scores.copy(data=values - (train_NL > 0) @ means @ (test_ML > 0).T)


def _averaging(label: np.ndarray) -> np.ndarray:
    """Columns [N L] that take the mean over the examples of a label."""
    member_NL = label[:, None] == np.unique(label)
    return member_NL / member_NL.sum(0)
