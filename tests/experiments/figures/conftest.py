"""Statistics per train-test pair with numbers that are easy to recognise in a figure."""

import numpy as np
import pytest
import xarray as xr

NUM_SEEDS = 4


def _pairs_of(p_NM, mean_NM=None, q_NM=None):
    p_NM = np.asarray(p_NM, dtype=float)
    zeros_NM = np.zeros_like(p_NM)
    arrays = {
        "mean": zeros_NM if mean_NM is None else mean_NM,
        "std": zeros_NM + 0.2,
        "p": p_NM,
        "q": p_NM if q_NM is None else q_NM,
        "published_p": (p_NM + 1) / 2,
    }
    return xr.Dataset(
        {name: (("train", "test"), values) for name, values in arrays.items()},
        coords={
            "train": 100 + np.arange(p_NM.shape[0]),
            "test": 50 + np.arange(p_NM.shape[1]),
            "n_seeds": NUM_SEEDS,
        },
    )


@pytest.fixture
def pairs_of():
    """Make the data set of a pairs file: p [N M], and where it matters mean [N M] and q [N M]."""
    return _pairs_of
