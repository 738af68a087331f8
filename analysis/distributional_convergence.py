"""Does unrolled differentiation tend to the influence function, and how fast?

    python analysis/distributional_convergence.py

Reads   results/distributional_convergence/samples.nc  from tda_distributional_scripts/
Writes  results/distributional_convergence/agreement.csv, .../figures/convergence.png

There is a row per learning rate, epoch and method. Pearson's correlation with the unrolled shifts
is over examples and queries of a run, as is the slope of the unrolled shifts on the method's. The
table has their means over runs, with Student's intervals.
Takes 3 s.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import xarray as xr

from bayestda.experiments import paths
from bayestda.experiments.figures import distributions
from bayestda.experiments.stages.distributional import analyse_script, read, write_table
from bayestda.plots import style
from bayestda.statistics import t_interval

NAME = "convergence"


def analyse() -> Iterator[Path]:
    """Write the table and the figure."""
    shifts = read(NAME)["shift"]
    unrolled = shifts.sel({"method": "unrolled"})
    others = shifts.drop_sel({"method": "unrolled"})
    table = pd.concat(
        summary(values).assign(quantity=quantity)
        for quantity, values in agreement(unrolled, others).items()
    )
    yield write_table(NAME, "agreement", table)
    yield style.save(paths.figure(f"distributional_{NAME}", NAME), distributions.convergence(table))


def agreement(unrolled: xr.DataArray, others: xr.DataArray) -> dict[str, xr.DataArray]:
    """Compute correlation and slope by run, dims (rate, method, seed, checkpoint)."""
    pairs = ("train", "test")
    slope = (unrolled * others).sum(pairs) / (others**2).sum(pairs)
    return {"correlation": xr.corr(unrolled, others, dim=pairs), "slope": slope}


def summary(values: xr.DataArray) -> pd.DataFrame:
    """Return means over runs with intervals, a row each."""
    table = t_interval(values).to_dataframe().reset_index()
    return table.rename(columns={"checkpoint": "epoch"}).assign(n_seeds=values.sizes["seed"])


if __name__ == "__main__":
    analyse_script(__doc__, analyse)
