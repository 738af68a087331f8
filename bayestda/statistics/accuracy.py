"""Measure how often a model is right."""

import numpy as np
import xarray as xr


def accuracy(logits: xr.DataArray, labels: xr.DataArray, split: str) -> xr.DataArray:
    """Return the share of images whose largest output is their label's.

    Args:
        logits: Outputs with dims (seed, checkpoint, <split>, output).
        labels: Number of the right output of each image, dim (<split>).
        split: Name of the images' dim, ``train`` or ``test``.

    Returns:
        Shares with dims (seed, checkpoint); NaN where an output is not finite.
    """
    # argmax takes NaN for the largest, so runs with one are found by their values instead.
    share = (logits.argmax("output", skipna=False) == labels).mean(split)
    return share.where(xr.apply_ufunc(np.isfinite, logits).all(("output", split)))
