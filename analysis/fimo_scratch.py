"""Does further training say what training again from the start would say?

    python analysis/fimo_scratch.py [--task NAME ...]

Reads   results/fimo_<task>/further/{sgd,scratch}/, results/fimo_<task>/approximations/
Writes  results/fimo_<task>/scratch.csv, figures/scratch.png

A network is trained from the final model's initial parameters, in orders of its own, with and
without each example (full adjustment). The table has its agreement with further training and with
each method, against the epochs of further training. Methods with a damping have the best one,
chosen by looking.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import xarray as xr

from bayestda.experiments import paths
from bayestda.experiments.figures import fimo_gold
from bayestda.experiments.final_models import FinalModels
from bayestda.experiments.final_results import (
    adjusted,
    check_same_models,
    command,
    main,
    methods,
    read_approximation,
    read_further,
    variants,
    write_table,
)
from bayestda.plots import style
from bayestda.statistics import gold_agreement

FURTHER = "further training"


def analyse(models: FinalModels) -> Iterator[Path]:
    """Write the table and the figure of one task."""
    scratch = read_further(models, "scratch")
    table = pd.DataFrame(rows(models, scratch))
    yield write_table(models, "scratch", table.assign(num_seeds=scratch.sizes["seed"]))
    figure = fimo_gold.scratch(table[table["metric"] == "cosine"], models.task)
    yield style.save(paths.figure(models.name, "scratch"), figure)


def rows(models: FinalModels, scratch: xr.Dataset) -> Iterator[dict]:
    """Yield a row for further training and each method, and each epoch."""
    retrained = adjusted(scratch, "full").mean("seed").isel(step=-1, drop=True)
    further = read_further(models)
    check_same_models(scratch, further)
    further = further.sel(train_seed=retrained["train_seed"])
    epochs = further["epoch"].to_series()
    gold = adjusted(further, "full").mean("seed")
    compared = {FURTHER: gold}
    compared |= {name: read_approximation(models, name, scratch) for name in methods(models)}
    for method, scores in compared.items():
        for metric, measure in gold_agreement.METRICS.items():
            agreement = gold_agreement.best_damping(measure(retrained, scores))
            for row in gold_agreement.rows(agreement, method=method, metric=metric):
                yield {**row, "epoch": epochs.get(row.get("step"))}


def command_of(models: FinalModels) -> str:
    """Return the command that trains from scratch."""
    return command(models, "scratch")


def has_results(models: FinalModels) -> bool:
    """Tell whether something was trained again from scratch."""
    return "scratch" in variants(models)


if __name__ == "__main__":
    main(__doc__, analyse, has_results, command_of)
