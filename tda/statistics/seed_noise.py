"""How much of a gold score is signal, how much is noise of the order of the data."""

import numpy as np
import xarray as xr

RELIABILITY = 0.9


def seed_noise(scores: xr.DataArray) -> xr.Dataset:
    r"""Sizes of signal and seed noise of scores, over left-out examples and test points.

    With v the mean over pairs of the variance over seeds, and s² the mean square of
    the seeds' mean score (about 0, the score of no effect) less v/S, which is what noise adds to
    it: the mean of S seeds has the reliability s²/(s² + v/S).

    Args:
        scores: dims (seed, ..., left_out, test); at least two seeds.

    Returns:
        ``signal`` s, a root mean square; ``noise`` √v, a standard deviation; and ``seeds_needed``,
        the least S whose mean has a reliability of .9; infinite where there is no signal. Dims
        (...).
    """
    pairs, count = ("left_out", "test"), scores.sizes["seed"]
    variance = scores.var("seed", ddof=1).mean(pairs)
    signal = (scores.mean("seed") ** 2).mean(pairs) - variance / count
    needed = RELIABILITY / (1 - RELIABILITY) * variance / signal.where(signal > 0)
    return xr.Dataset(
        {
            "signal": np.sqrt(signal.clip(min=0)),
            "noise": np.sqrt(variance),
            "seeds_needed": np.ceil(needed.clip(min=1).fillna(np.inf)),
        }
    )


def order_agreement(scores: xr.DataArray) -> xr.DataArray:
    """Cosine over left-out examples between scores of two seeds, mean over pairs and test points.

    Args:
        scores: dims (seed, ..., left_out, test); at least two seeds. Test points whose scores are
            all 0 for a seed have no cosine and are left out of the mean.
    """
    unit = scores / np.sqrt((scores**2).sum("left_out"))
    count, summed = scores.sizes["seed"], unit.sum("seed", skipna=False)
    total = (summed**2).sum("left_out", skipna=False)
    return ((total - count) / (count * (count - 1))).mean("test")
