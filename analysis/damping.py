"""Which damping makes the influence function agree with leave-one-out retraining?

    python analysis/damping.py [--experiment NAME ...]

Reads   results/<experiment>/scores/{influence,loo}/
Writes  results/<experiment>/damping.csv, results/<experiment>/figures/damping.png

There is a row per damping and quantity of agreement with LOO (as in analysis/reliability.py),
signed so that positive means agreement. A damping that is chosen by looking must be judged on seeds
that were not looked at. Therefore ``best_of_other_half`` splits the seeds into two halves. It
counts the splits in which this damping is the best on one half, and gives the mean correlation on
the other half.
Takes 7 s for 10 seeds and 30 x 900 pairs.
"""

from pathlib import Path

import pandas as pd
import xarray as xr

from bayestda import statistics
from bayestda.experiments import paths
from bayestda.experiments.analysis import comparable_scores, main
from bayestda.experiments.figures import names
from bayestda.experiments.figures.damping import LINES, damping_curve
from bayestda.experiments.grid import Experiment
from bayestda.experiments.results import read_scores, write_table
from bayestda.plots import style


def analyse(experiment: Experiment) -> list[Path]:
    """Write the table and the figure of one experiment."""
    datasets = comparable_scores(experiment, ("loo", "influence"))
    reference = statistics.run_means(datasets["loo"]["score"])
    influence = read_scores(experiment, "influence", {"damping": None})["score"]
    common = [seed for seed in reference["seed"].values if seed in influence["seed"].values]
    reference, influence = reference.sel(seed=common), influence.sel(seed=common)
    by_damping = {
        float(damping): statistics.run_means(influence.sel(damping=damping))
        for damping in sorted(influence["damping"].values)
    }
    table = pd.concat(
        [agreement(damping, scores, reference) for damping, scores in by_damping.items()]
        + [chosen_on_other_half(by_damping, reference)]
    )
    figure = damping_curve(table, names.title(experiment))
    return [
        write_table(experiment, "damping", table),
        style.save(paths.figure(experiment.name, "damping"), figure),
    ]


def agreement(damping: float, scores: xr.DataArray, reference: xr.DataArray) -> pd.DataFrame:
    """Compute the agreement of one damping's scores with LOO."""
    table = statistics.agreement(scores, reference)
    table = table[table["quantity"].isin(LINES)]
    return table.assign(damping=damping, n_seeds=reference.sizes["seed"])


def chosen_on_other_half(
    by_damping: dict[float, xr.DataArray], reference: xr.DataArray
) -> pd.DataFrame:
    """Count how often each damping is best on half of the seeds; give its value on the other."""
    splits = statistics.chosen_on_other_half(by_damping, reference).groupby("chosen")["value"]
    table = splits.agg(value="mean", n_splits="size").reindex(list(by_damping))
    table["n_splits"] = table["n_splits"].fillna(0).astype(int)
    return table.rename_axis("damping").reset_index().assign(
        quantity="best_of_other_half", n_seeds=reference.sizes["seed"]
    )  # fmt: skip


if __name__ == "__main__":
    main(__doc__, analyse)
