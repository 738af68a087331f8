"""Is a network better after pruning by run-averaged scores than by a single run's, or at random?

    python analysis/distributional_cifar10_pruning.py

Reads   results/distributional_cifar10_pruning/samples.nc  from tda_distributional_scripts/
Writes  results/distributional_cifar10_pruning/pruning.csv, .../figures/cifar10_pruning.png

There is a row per measure, rule and share removed. ``mean``, ``low`` and ``high`` are of the change
from the same runs with all images. With the prefix ``random_`` they are of the change from runs
that are pruned at random. The 95 % intervals are Student's, over runs. ``whole`` is the measure
with all images.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import xarray as xr

from bayestda.experiments import paths
from bayestda.experiments.figures import pruning
from bayestda.experiments.stages.distributional import analyse_script, read, write_table
from bayestda.plots import style
from bayestda.statistics.intervals import t_interval

NAME = "cifar10_pruning"


def analyse() -> Iterator[Path]:
    """Write the table and the figure."""
    samples = read(NAME)
    table = pd.concat(
        rows(samples, measure, rule)
        for measure in ("loss", "accuracy")
        for rule in samples["rule"].values
    )
    yield write_table(NAME, "pruning", table)
    figure = pruning.curves(table, samples.sizes["run"])
    yield style.save(paths.figure(f"distributional_{NAME}", NAME), figure)


def rows(samples: xr.Dataset, measure: str, rule: str) -> pd.DataFrame:
    """Return a row per share that is removed by one rule."""
    own, by_rule = samples[measure].sel(rule=rule, drop=True), samples[measure]
    bases = {"": samples[f"whole_{measure}"], "random_": by_rule.sel(rule="random", drop=True)}
    columns = {}
    for prefix, base in bases.items():
        found = t_interval((own - base).rename(run="seed"))
        columns |= {f"{prefix}{name}": found[name].values for name in ("mean", "low", "high")}
    named = {"measure": measure, "rule": rule, "share": samples["share"].values}
    return pd.DataFrame(named | columns | {"whole": float(samples[f"whole_{measure}"].mean())})


if __name__ == "__main__":
    analyse_script(__doc__, analyse)
