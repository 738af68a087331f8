"""Scores of groups of training examples."""

from typing import Any

import numpy as np
import xarray as xr

from bayestda.errors import UserError

ROWS = 1024  # training examples whose scores are summed at a time


def group_scores(scores: xr.DataArray, groups: Any) -> xr.DataArray:
    """Return scores of groups of training examples: the sum over their members.

    This is right for every method that is linear in the removed examples, as all gradient methods
    are. :func:`leave_group_out` shows how far retraining is from that.

    Args:
        scores: Scores with dims (..., train, test).
        groups: Booleans [G N], True for members.

    Returns:
        Dims (..., group, test).
    """
    member_GN = np.asarray(groups)
    if member_GN.dtype != bool or member_GN.shape[1:] != (scores.sizes["train"],):
        raise UserError(
            f"groups must be booleans [G, {scores.sizes['train']}], one column per training "
            f"example, not {member_GN.dtype} {member_GN.shape}"
        )
    dims = [dim if dim != "train" else "group" for dim in scores.dims]
    by_train = scores.transpose("train", ...)
    total_G = np.zeros((len(member_GN), *by_train.shape[1:]), scores.dtype)
    for start in range(0, scores.sizes["train"], ROWS):
        rows = slice(start, start + ROWS)
        weight_Gn = member_GN[:, rows].astype(scores.dtype)
        total_G += np.tensordot(weight_Gn, by_train[rows].values, axes=1)
    labels = {name: c for name, c in scores.coords.items() if "train" not in c.dims}
    summed = xr.DataArray(total_G, labels, ("group", *by_train.dims[1:]), scores.name)
    return summed.transpose(*dims)
