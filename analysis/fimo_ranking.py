"""Is the horizon filter better than every method of the paper, at every horizon?

    python analysis/fimo_ranking.py [--task NAME ...]

Reads   results/fimo_<task>/further/sgd/, results/fimo_<task>/approximations/
Writes  results/fimo_<task>/ranking.csv, figures/ranking.png

There is a row per epoch of further training (SGD, full adjustment) and filter of its horizon. It
gives the difference between the filter's cosine and that of the paper's best method at that epoch,
with the best of its dampings. Method and damping are chosen by looking. Intervals are 95 %
jackknife intervals of the paired difference, over test points and final models.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import xarray as xr

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.figures import fimo
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
from bayestda.statistics.gold_agreement import best_damping, cosine, summary


def analyse(models: FinalModels) -> Iterator[Path]:
    """Write the table and the figure of one task."""
    table = pd.DataFrame(rows(models))
    yield write_table(models, "ranking", table)
    figure = fimo.ranking(table, f"{models.task} · against the paper's best method at each epoch")
    yield style.save(paths.figure(models.name, "ranking"), figure)


def rows(models: FinalModels) -> Iterator[dict]:
    """Yield a row for each filter and step."""
    further = read_further(models)
    gold = adjusted(further, "full").mean("seed")
    agreements = {
        name: best_damping(cosine(gold, read_approximation(models, name, further)))
        for name in methods(models)
    }
    filters = [name for name in agreements if name.startswith("horizon")]
    if not filters or len(filters) == len(agreements):
        raise UserError(
            f"{models.name} has no filter of the horizon to compare with other methods: run "
            f"`python {models.script('approximate')} {models.flags}`"
        )
    for place, epoch in enumerate(further["epoch"].values):
        others = {
            name: own.isel(step=place) for name, own in agreements.items() if name not in filters
        }
        best = max(others, key=lambda name: float(others[name].mean()))
        for name in filters:
            own = agreements[name].isel(step=place)
            yield {"epoch": epoch, **compared(own, others[best]), "method": name, "best": best}


def compared(own: xr.DataArray, other: xr.DataArray) -> dict:
    """Return both cosines, and their difference with its interval."""
    difference = summary(own.drop_vars("damping", errors="ignore") - other)
    values = {"own": float(own.mean()), "other": float(other.mean())}
    damping = {"damping": float(other["damping"])} if "damping" in other.coords else {}
    known = {key: difference[key] for key in ("low", "high", "se_test", "num_models")}
    return {**values, **damping, "difference": difference["value"], **known}


def has_results(models: FinalModels) -> bool:
    """Tell whether there is further training with SGD."""
    return "sgd" in variants(models)


if __name__ == "__main__":
    main(__doc__, analyse, has_results)
