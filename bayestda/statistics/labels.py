"""Take out of scores what the labels of the two examples say.

A training example of a test example's class mostly helps it, and one of another class mostly harms
it. This is known without any attribution, so two methods may agree on it and on little else.
"""

import numpy as np
import xarray as xr

from bayestda.errors import UserError


def is_labelled(scores: xr.DataArray) -> bool:
    """Return whether scores have the labels of training and test examples as coordinates."""
    return {"train_label", "test_label"} <= set(scores.coords)


def within_labels(scores: xr.DataArray) -> xr.DataArray:
    """Return scores less their mean over all pairs with the same two labels.

    Args:
        scores: Scores with dims (..., train, test) and the coordinates ``train_label`` and
            ``test_label``.

    Raises:
        UserError: A label is missing from the coordinates.
    """
    if not is_labelled(scores):
        raise UserError("scores need the coordinates train_label and test_label")
    scores = scores.transpose(..., "train", "test")
    values = scores.values.astype(np.float64)
    train_NL, test_ML = (_averaging(scores[name].values) for name in ("train_label", "test_label"))
    means = train_NL.T @ values @ test_ML  # of each pair of labels [... L L]
    # Then each pair of examples is given the mean of its labels, which is taken off.
    return scores.copy(data=values - (train_NL > 0) @ means @ (test_ML > 0).T)


def _averaging(label: np.ndarray) -> np.ndarray:
    """Columns [N L] that take the mean over the examples of a label."""
    member_NL = label[:, None] == np.unique(label)
    return member_NL / member_NL.sum(0)
