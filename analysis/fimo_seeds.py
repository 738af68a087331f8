"""Does averaging over orders of the data matter?

    python analysis/fimo_seeds.py [--task NAME ...]

Reads   results/fimo_<task>/further/, results/fimo_<task>/approximations/
Writes  results/fimo_<task>/seeds.csv, figures/seeds_<variant>_<adjustment>.png

A row is the maximum over epochs of a method's cosine with a gold standard, which is the mean of 1,
2, 5, ... orders of the data. The orders are in disjoint groups. Groups share final models and test
points, so their spread alone would be too small an error. Therefore ``low`` and ``high`` are a
jackknife interval over orders, test points and final models together, at the epoch and damping of
the largest mean. A factor with less than three levels is left out of the interval. Only the final
models that have the most orders are used.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from bayestda.experiments import paths
from bayestda.experiments.figures import fimo_gold
from bayestda.experiments.final_models import FinalModels
from bayestda.experiments.final_results import (
    adjusted,
    main,
    methods,
    read_approximation,
    read_further,
    variants,
    write_table,
)
from bayestda.plots import style
from bayestda.statistics.gold_agreement import cosine, delete_one
from bayestda.statistics.intervals import jackknife_interval

SIZES = (1, 2, 5, 10, 20, 50, 100)
FACTORS = ("group", "train_seed", "test")


def analyse(models: FinalModels) -> Iterator[Path]:
    """Write the table of one task."""
    found = [
        row
        for variant in variants(models)
        if variant != "scratch"
        for adjustment in ("full", "mean")
        for row in rows(models, variant, adjustment)
    ]
    table = pd.DataFrame(found)
    yield write_table(models, "seeds", table)
    for (variant, adjustment), own in table.groupby(["variant", "adjustment"]):
        if own["size"].max() > 1:
            heading = f"{models.task} · further training with {variant} · {adjustment} adjustment"
            name = f"seeds_{variant}_{adjustment}"
            yield style.save(paths.figure(models.name, name), fimo_gold.by_seeds(own, heading))


def rows(models: FinalModels, variant: str, adjustment: str) -> Iterator[dict]:
    """Yield a row for each method and size of a group."""
    further = read_further(models, variant, most_orders=True)
    gold = adjusted(further, adjustment)
    for method in methods(models):
        scores = read_approximation(models, method, further)
        if "step" in scores.dims and not variant.startswith("sgd"):
            continue
        for size in (size for size in SIZES if size <= gold.sizes["seed"]):
            agreement = cosine(grouped(gold, size), scores)
            named = {"variant": variant, "adjustment": adjustment, "method": method}
            yield {**named, "size": size, **maximum(agreement)}


def grouped(gold: xr.DataArray, size: int) -> xr.DataArray:
    """Average over disjoint groups of orders, dim ``group``; left-over orders are not used.

    Args:
        gold: Gold scores, dims (seed, ...).
        size: Number of orders in a group.
    """
    count = gold.sizes["seed"] // size
    groups = [gold.isel(seed=slice(g * size, (g + 1) * size)).mean("seed") for g in range(count)]
    return xr.concat(groups, dim="group")


def maximum(agreement: xr.DataArray) -> dict:
    """Return the largest mean over epochs and dampings, its place, and its interval.

    As in :mod:`bayestda.statistics.gold_agreement`, a damping that is not defined for all final
    models is not chosen if there are others, and test points without a cosine for all are left out.
    """
    mean = agreement.mean("test").mean(["group", "train_seed"], skipna=False).fillna(-np.inf)
    place = {dim: int(at) for dim, at in mean.argmax(...).items()} if mean.ndim else {}
    best = agreement.isel(place).dropna("test")
    levels = [best.mean([other for other in FACTORS if other != dim]).values for dim in FACTORS]
    interval = jackknife_interval(
        float(best.mean()), [delete_one(each) for each in levels if len(each) > 2]
    )
    known = {dim: float(best[dim]) for dim in ("epoch", "damping") if dim in best.coords}
    ends = {"low": float(interval.low), "high": float(interval.high)}
    return {
        "value": float(best.mean()),
        **ends,
        **known,
        "num_groups": agreement.sizes["group"],
        "num_models": agreement.sizes["train_seed"],
    }


if __name__ == "__main__":
    main(__doc__, analyse)
