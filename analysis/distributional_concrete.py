"""Do predicted distributions hold on UCI Concrete, and which estimator ranks removals best?

    python analysis/distributional_concrete.py

Reads   results/distributional_concrete/samples.nc  from tda_distributional_scripts/
Writes  results/distributional_concrete/errors.csv, lds.csv, .../figures/concrete.png

errors: a row per method, removal and query. lds: a row per method, number of runs that predict, and
difference; against retraining with the same seeds (common random numbers) and with others
(independent). The columns are those of ``tda.validate``.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import tda
from tda import paths
from tda.distributional.validation import Validation
from tda.figures import distributions, style
from tda.stages.distributional import analyse_script, read, write_table

NAME, FEW, RESAMPLES = "concrete", 10, 50


def analyse() -> Iterator[Path]:
    """Write the tables and the figure."""
    samples = read(NAME)
    found = {
        (method, numbers, runs): validated(samples, str(method), numbers, runs)
        for method in samples["method"].values
        for numbers, runs in (("common", None), ("independent", None), ("independent", FEW))
    }
    named = {key: {"method": key[0], "random_numbers": key[1]} for key in found}
    errors = pd.concat(v.errors.assign(**named[k]) for k, v in found.items() if k[2] is None)
    lds = pd.concat(v.lds.assign(**named[k]) for k, v in found.items())
    yield write_table(NAME, "errors", errors)
    yield write_table(NAME, "lds", lds)
    figure = distributions.removals(samples, errors, lds)
    yield style.save(paths.figure(f"distributional_{NAME}", NAME), figure)


def validated(samples: xr.Dataset, method: str, numbers: str, runs: int | None) -> Validation:
    """One method's predictions, of some runs, against retraining."""
    own = samples.isel(seed=slice(runs))
    groups = samples["group"] if "group" in samples.coords else np.arange(samples.sizes["group"])
    shifts = own["shift"].sel({"method": method}, drop=True).assign_coords(group=groups)
    each = xr.concat(
        [tda.predict_removal(own["measured"], shifts, [group]) for group in shifts["group"].values],
        "group", coords="minimal", compat="override", join="override",
    ).transpose("seed", "checkpoint", "group", "test")  # fmt: skip
    truth = samples["retrained"]
    if numbers == "independent":
        truth = samples["independent"].rename(other_seed="seed")
    c = own["measured"].isel(checkpoint=-1).quantile(0.9, "seed").values
    wanted = ("mean", "variance", "wasserstein", tda.tail(c))
    return tda.validate(each, truth, differences=wanted, num_resamples=RESAMPLES)


if __name__ == "__main__":
    analyse_script(__doc__, analyse)
