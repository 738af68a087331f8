"""Margins without a class, near-duplicates, or random images: predicted and retrained.

    python analysis/distributional_mnist3_groups.py

Reads   results/distributional_mnist3_groups/samples.nc  from tda_distributional_scripts/
Writes  results/distributional_mnist3_groups/errors.csv, groups.csv, .../figures/mnist3_groups.png

errors.csv has the columns of ``tda.validate`` by group and query. groups.csv has their means by
group, and by group over queries of its own classes alone (``own``), with 95 % intervals of the mean
changes over runs.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import bayestda as tda
from bayestda.experiments import paths
from bayestda.experiments.figures import groups
from bayestda.experiments.stages.distributional import analyse_script, read, write_table
from bayestda.plots import style
from bayestda.statistics.intervals import t_interval

NAME, RESAMPLES = "mnist3_groups", 50
SHOWN = ["mean_change", "mean_predicted", "w2_before", "w2_predicted", "w2_null"]


def analyse() -> Iterator[Path]:
    """Write the tables and the figure."""
    samples = read(NAME)
    each = xr.concat(
        [tda.predict_removal(samples["measured"], samples["shift"], [name])
         for name in samples["group"].values],
        "group", coords="minimal", compat="override", join="override",
    )  # fmt: skip
    each = each.transpose("seed", "checkpoint", "group", "test")
    each = each.assign_coords(group=samples["group"].values)
    found = tda.validate(each, samples["retrained"], num_resamples=RESAMPLES)
    errors = found.errors.assign(own=of_own_class(samples, found.errors))
    yield write_table(NAME, "errors", errors)
    means = errors.groupby(["group", "own"], sort=False)[SHOWN].mean().reset_index()
    yield write_table(NAME, "groups", means.join(intervals(samples, errors, means)))
    figure = groups.margins(samples.isel(checkpoint=0), errors)
    yield style.save(paths.figure(f"distributional_{NAME}", NAME), figure)


def intervals(samples: xr.Dataset, errors: pd.DataFrame, means: pd.DataFrame) -> pd.DataFrame:
    """Compute Student's intervals over runs of both mean changes of each row."""
    moved = {"change": samples["retrained"] - samples["measured"], "predicted": samples["shift"]}
    ends = []
    for row in means.itertuples():
        is_of_row = (errors["group"] == row.group) & (errors["own"] == row.own)
        at = {"group": row.group, "test": errors.loc[is_of_row, "test"].to_numpy()}
        found = {name: t_interval(own.sel(at).mean("test")) for name, own in moved.items()}
        both = [(name, end) for name in found for end in ("low", "high")]
        ends.append({f"{name}_{end}": found[name][end].item() for name, end in both})
    return pd.DataFrame(ends)


def of_own_class(samples: xr.Dataset, errors: pd.DataFrame) -> list[bool]:
    """Tell whether a query is of a class of which the group removes images."""
    removed = {
        name: set(np.unique(samples["train_label"].values[members]).tolist())
        for name, members in zip(samples["group"].values, samples["members"].values, strict=True)
    }
    label = dict(zip(samples["test"].values, samples["test_label"].values, strict=True))
    pairs = zip(errors["group"], errors["test"], strict=True)
    return [label[test] in removed[group] for group, test in pairs]


if __name__ == "__main__":
    analyse_script(__doc__, analyse)
