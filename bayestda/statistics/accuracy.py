"""How often a model is right."""

import numpy as np
import xarray as xr


def accuracy(logits: xr.DataArray, labels: xr.DataArray, split: str) -> xr.DataArray:
    """Share of images whose largest output is their label's.

    Args:
        logits: dims (seed, checkpoint, <split>, output).
        labels: dim (<split>): the output that is right.
        split: name of the images' dim, ``train`` or ``test``.

    Returns:
        dims (seed, checkpoint); not a number where an output is not.
    """
    right = (logits.argmax("output", skipna=False) == labels).mean(split)
    return right.where(xr.apply_ufunc(np.isfinite, logits).all(("output", split)))
