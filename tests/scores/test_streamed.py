"""Streamed scores stay those of their own file."""

import gc

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import bayestda as tda

X, Y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3


def network(seed):
    torch.manual_seed(seed)
    return nn.Linear(4, 3)


def scores(seed, **settings):
    posterior = tda.Posterior.of_networks({0: [network(seed)]})
    return tda.attribute(
        posterior, tda.Classification(), (X, Y), (X, Y), method="grad_dot", **settings
    )


@pytest.mark.parametrize("others", [0, 130])
def test_a_result_is_not_another_file_that_takes_its_name(tmp_path, others):
    """xarray keeps 128 files open and opens others again, by their path."""
    path = tmp_path / "scores.nc"
    first = scores(0, output=path)
    path.unlink()
    second = scores(1, output=path)
    kept = []
    for number in range(others):
        file = tmp_path / f"{number}.nc"
        xr.Dataset({"v": ("x", [1.0])}).to_netcdf(file, engine="h5netcdf")
        kept.append(xr.open_dataset(file, engine="h5netcdf"))
    assert np.array_equal(first.values, scores(0).values)
    assert np.array_equal(second.values, scores(1).values)
    for opened in (*kept, first, second):
        opened.close()


def test_a_result_that_is_never_closed_leaves_no_open_file_behind(tmp_path):
    column = scores(0, output=tmp_path / "scores.nc").isel(test=0)
    gc.collect()
    assert np.array_equal(column.values, scores(0).isel(test=0).values)
    del column
    gc.collect()
