"""Do predicted distributions hold on UCI Concrete, and which estimator ranks removals best?

    python analysis/distributional_concrete.py

Reads   results/distributional_concrete/samples.nc  from tda_distributional_scripts/
Writes  results/distributional_concrete/errors.csv, lds.csv, curves.csv,
        .../figures/concrete.png, concrete_lds.png

errors.csv has a row per method, removal and query. lds.csv has a row per method and difference.
Both are against retraining with the same seeds (common random numbers) and with others
(independent), with the columns of ``tda.validate``. curves.csv is of ``tda.lds_by_runs``, against
independent runs. TRAK has one score for the ensemble, without a unit. It ranks means and, by its
size, W₂, and nothing else.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import bayestda as tda
from bayestda.experiments import paths
from bayestda.experiments.figures import distributions
from bayestda.experiments.stages.distributional import (
    analyse_script,
    counts_up_to,
    read,
    write_table,
)
from bayestda.plots import style

NAME, RESAMPLES, DRAWS = "concrete", 50, 20
TAIL = 0.9


def analyse() -> Iterator[Path]:
    """Write the tables and the figures."""
    samples = read(NAME)
    errors, lds = (pd.concat(tables) for tables in zip(*validated(samples), strict=True))
    curves = pd.concat([*by_runs(samples), *of_ensembles(samples)])
    yield write_table(NAME, "errors", errors)
    yield write_table(NAME, "lds", lds)
    yield write_table(NAME, "curves", curves)
    folder = f"distributional_{NAME}"
    yield style.save(paths.figure(folder, NAME), distributions.removals(samples, errors, lds))
    yield style.save(paths.figure(folder, f"{NAME}_lds"), distributions.lds_curves(curves, lds))


def validated(samples: xr.Dataset) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Validate every method's predictions against both retrainings: errors and scores."""
    for method in samples["method"].values:
        each = predicted(samples, samples["shift"].sel({"method": method}, drop=True))
        for numbers, truth in (("common", samples["retrained"]), ("independent", other(samples))):
            named = {"method": method, "random_numbers": numbers}
            found = tda.validate(
                each, truth, differences=differences(samples), num_resamples=RESAMPLES
            )
            yield found.errors.assign(**named), found.lds.assign(**named)


def by_runs(samples: xr.Dataset) -> Iterator[pd.DataFrame]:
    """Compute scores by the number of runs that predict, for every method."""
    total = samples.sizes["seed"]
    runs = counts_up_to(total)
    for method in samples["method"].values:
        each = predicted(samples, samples["shift"].sel({"method": method}, drop=True))
        wanted = differences(samples)
        table = tda.lds_by_runs(each, other(samples), runs, differences=wanted, num_draws=DRAWS)
        yield table.assign(method=method)


def of_ensembles(samples: xr.Dataset) -> Iterator[pd.DataFrame]:
    """Compute scores of TRAK's ensembles, which count as a shift that is equal in all runs."""
    total = samples.sizes["seed"]
    for size, scores in samples["trak"].groupby("size"):
        shifts = scores.squeeze("size", drop=True).expand_dims(seed=samples["seed"].values)
        each = predicted(samples, shifts.expand_dims(checkpoint=samples["checkpoint"].values))
        wanted = ("mean", "wasserstein")
        table = tda.lds_by_runs(each, other(samples), [total], differences=wanted)
        yield table.assign(method="trak", n_seeds=size)


def predicted(samples: xr.Dataset, shifts: xr.DataArray) -> xr.DataArray:
    """Return the sample without each group, dims (seed, checkpoint, group, test)."""
    shifts = shifts.assign_coords(group=np.arange(shifts.sizes["group"]))
    measured = samples["measured"]
    each = [tda.predict_removal(measured, shifts, [group]) for group in shifts["group"].values]
    joined = xr.concat(each, "group", coords="minimal", compat="override", join="override")
    return joined.transpose("seed", "checkpoint", "group", "test")


def other(samples: xr.Dataset) -> xr.DataArray:
    """Return retrained runs of seeds of their own, and what these measure without a removal."""
    own = {"other_seed": "seed"}
    before = samples["other_measured"].rename(own)
    return samples["independent"].rename(own).assign_coords(before=before)


def differences(samples: xr.Dataset) -> tuple:
    """Return what is ranked; the tail is that above the nine tenths of the runs before removal."""
    c = samples["measured"].isel(checkpoint=-1).quantile(TAIL, "seed").values
    return ("mean", "variance", "wasserstein", tda.tail(c))


if __name__ == "__main__":
    analyse_script(__doc__, analyse)
