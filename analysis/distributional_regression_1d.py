"""Which example matters most: the mean and W₂ name different ones.

    python analysis/distributional_regression_1d.py

Reads   results/distributional_regression_1d/samples.nc  from tda_distributional_scripts/
Writes  results/distributional_regression_1d/examples.csv, .../figures/regression_1d.png

There is a row per example. It has the change of the mean, of the standard deviation, and W₂ by the
example's removal, predicted from unrolled shifts and by retraining. The 95 % intervals are over
runs. Ranks are over examples.
Takes 10 s.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import xarray as xr

import bayestda as tda
from bayestda.experiments import paths
from bayestda.experiments.figures import distributions
from bayestda.experiments.stages.distributional import analyse_script, read, write_table
from bayestda.plots import style

NAME = "regression_1d"
DIFFERENCES = ("mean", "std", "wasserstein")


def analyse() -> Iterator[Path]:
    """Write the table and the figure."""
    samples = read(NAME)
    changes = {"predicted": samples["shift"], "retrained": changed(samples)}
    table = pd.concat(
        examples(samples["measured"], shifts, difference).assign(source=source)
        for source, shifts in changes.items()
        for difference in DIFFERENCES
    )
    yield write_table(NAME, "examples", table)
    figure = distributions.two_rankings(samples, table)
    yield style.save(paths.figure(f"distributional_{NAME}", NAME), figure)


def changed(samples: xr.Dataset) -> xr.DataArray:
    """Compute what retraining changes in each run."""
    dims = samples["shift"].dims
    return (samples["retrained"] - samples["measured"]).transpose(*dims)


def examples(measured: xr.DataArray, shifts: xr.DataArray, difference: str) -> pd.DataFrame:
    """Return a row per example: value, interval and rank of one difference."""
    found = tda.distributional_influence(measured, shifts, difference)
    table = found.isel(checkpoint=0, test=0, drop=True).to_dataframe().reset_index()
    rank = table["value"].abs().rank(ascending=False).astype(int)
    columns = ["train", "x", "y", "difference", "value", "low", "high", "rank"]
    return table.assign(difference=difference, rank=rank)[columns]


if __name__ == "__main__":
    analyse_script(__doc__, analyse)
