"""How much of each score's variance comes from seeds, epochs, and the rest.

    python analysis/variance.py [--experiment NAME ...]

Reads   results/<experiment>/scores/<method>/
Writes  results/<experiment>/variance.csv

The components of the variance of one score (one run, one checkpoint) are summed over train-test
pairs. They are given as shares of their sum, with 95 % jackknife intervals.

Runs that differ by seed have ``seed`` (whatever a seed sets in this experiment: see its
randomness), ``epoch`` (common to all runs) and ``seed_x_epoch`` (the rest, between checkpoints of a
run). Crossed runs have ``init``, ``order``, ``interaction``, ``epoch`` and ``run_x_epoch``. With
one run per cell the interaction is whatever else differs between runs.

Checkpoints of a run are correlated, so the components describe the kept epochs: ``seed`` is the
variance that all of them share. With one checkpoint there are no components of epochs. Unbiased
estimates can be negative and are left so. For LOO, ``all_pairs_published`` is the paper's variance
over all pairs of a retrained and a base model, as a multiple of the sum above.
Takes 7 s for 10 seeds, 30 x 900 pairs and eight methods.
"""

from pathlib import Path

import pandas as pd
import xarray as xr

from bayestda import statistics
from bayestda.errors import UserError
from bayestda.experiments.analysis import finite_scores, main, methods
from bayestda.experiments.grid import Experiment
from bayestda.experiments.results import write_table


def analyse(experiment: Experiment) -> list[Path]:
    """Write the table of one experiment."""
    tables = []
    for method in methods(experiment):
        dataset = finite_scores(experiment, method)
        shares = crossed if experiment.randomness == "crossed" else by_seed
        table = shares(experiment, dataset).assign(
            n_seeds=dataset.sizes["seed"],
            n_checkpoints=dataset.sizes["checkpoint"],
            n_pairs=dataset.sizes["train"] * dataset.sizes["test"],
        )
        table.insert(0, "method", method)
        table.insert(1, "randomness", experiment.randomness)
        tables.append(table)
    return [write_table(experiment, "variance", pd.concat(tables))]


def by_seed(_: Experiment, dataset: xr.Dataset) -> pd.DataFrame:
    """Compute the shares of seeds, epochs, and what differs between checkpoints of a run alone."""
    table = statistics.seed_shares(dataset["score"])
    if "test_loss" not in dataset:
        return table
    published = statistics.pooled_pair_share(dataset["score"], dataset["test_loss"])
    return pd.concat([table, published])


def crossed(experiment: Experiment, dataset: xr.Dataset) -> pd.DataFrame:
    """Compute the shares of initialisations, orders, their interaction, and epochs."""
    try:
        return statistics.crossed_shares(statistics.to_grid(dataset["score"]))
    except ValueError as error:
        raise UserError(
            f"{experiment.name} has scores of {dataset.sizes['seed']} of {len(experiment.runs())} "
            f"runs ({error}): finish its stages, they take up where they stopped"
        ) from error


if __name__ == "__main__":
    main(__doc__, analyse)
