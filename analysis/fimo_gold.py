"""The gold standard itself: its size, its noise, and which way of leaving out needs fewer seeds.

    python analysis/fimo_gold.py [--task NAME ...]

Reads   results/fimo_<task>/further/
Writes  results/fimo_<task>/gold.csv, figures/gold_noise.png, figures/gold_sorted.png

There is a row per variant of further training, adjustment and epoch. ``signal`` is the root mean
square (about 0) of scores over left-out examples and test points, without their noise. ``noise`` is
the standard deviation of a pair over orders of the data. ``seeds_needed`` is the number of orders
that a mean of reliability .9 needs. ``order_agreement`` is the mean cosine between two orders'
scores. They are medians, the last one a mean, over the final models that have the most orders.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.figures import fimo_gold
from bayestda.experiments.final_models import FinalModels
from bayestda.experiments.final_results import (
    adjusted,
    command,
    main,
    read_further,
    variants,
    write_table,
)
from bayestda.plots import style
from bayestda.statistics.gold_agreement import order_agreement, seed_noise

HOW = {"sgd": "subtraction", "sgd_delete": "deletion"}
SHOWN = 20  # test points


def analyse(models: FinalModels) -> Iterator[Path]:
    """Write the table and the figures of one task."""
    table = pd.concat([rows(models, variant) for variant in variants(models)])
    if not len(table):
        raise UserError(
            f"noise needs two orders of the data, {models.name} has one: run "
            f"`{command(models)} --num_seeds 2`"
        )
    yield write_table(models, "gold", table)
    drawn = table[(table["adjustment"] == "full") & table["variant"].isin(HOW)]
    drawn = drawn.assign(how=drawn["variant"].map(HOW))
    yield style.save(paths.figure(models.name, "gold_noise"), fimo_gold.noise(drawn, models.task))
    further = read_further(models)
    gold = adjusted(further, "full").mean("seed").isel(train_seed=0, step=-1, test=slice(SHOWN))
    heading = f"{models.task} · after {further['epoch'].values[-1]:g} epochs"
    yield style.save(
        paths.figure(models.name, "gold_sorted"), fimo_gold.sorted_scores(gold, heading)
    )


def rows(models: FinalModels, variant: str) -> pd.DataFrame:
    """Compute noise and signal of one variant; none where there is only one order of the data."""
    further = read_further(models, variant, most_orders=True)
    if further.sizes["seed"] < 2:
        return pd.DataFrame()
    found = []
    for adjustment in ("full", "mean"):
        scores = adjusted(further, adjustment)
        noise = seed_noise(scores).median("train_seed")
        noise["order_agreement"] = order_agreement(scores).mean("train_seed")
        table = noise.to_dataframe().reset_index()
        found.append(table.assign(variant=variant, adjustment=adjustment))
    return pd.concat(found).assign(num_seeds=further.sizes["seed"])


if __name__ == "__main__":
    main(__doc__, analyse)
