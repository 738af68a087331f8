"""Which methods approximate further training, after how much of it?

    python analysis/fimo_agreement.py [--task NAME ...]

Reads   results/fimo_<task>/further/, results/fimo_<task>/approximations/
Writes  results/fimo_<task>/agreement.csv and figures/agreement_<variant>_<adjustment>_<metric>.png

A row per kind of further training, adjustment, metric, method, damping and epoch. Adjustments of
gold scores: ``full`` (equation 17 of Wei et al. 2025), ``mean`` (equation 13), and ``centred``, in
which the method's scores are centred as well. Rows with ``choice`` = best have the damping that is
best at that epoch, chosen by looking.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from bayestda.experiments import paths
from bayestda.experiments.figures import fimo
from bayestda.experiments.final_models import FinalModels
from bayestda.experiments.final_results import (
    ADJUSTMENTS,
    adjusted,
    main,
    methods,
    read_approximation,
    read_further,
    variants,
    write_table,
)
from bayestda.plots import style
from bayestda.statistics import gold_agreement


def analyse(models: FinalModels) -> Iterator[Path]:
    """Write the table and the figures of one task."""
    table = pd.concat([compared(models, variant) for variant in variants(models)])
    yield write_table(models, "agreement", table)
    drawn = table[(table["variant"] != "scratch") & (table["choice"] != "all")]
    for (variant, adjustment, metric), own in drawn.groupby(["variant", "adjustment", "metric"]):
        heading = f"{models.task} · further training with {variant} · {adjustment} adjustment"
        figure = fimo.agreement(own, heading, metric)
        name = f"agreement_{variant}_{adjustment}_{metric}"
        yield style.save(paths.figure(models.name, name), figure)


def compared(models: FinalModels, variant: str) -> pd.DataFrame:
    """Compute the rows of one kind of further training."""
    further = read_further(models, variant)
    epochs = further["epoch"].to_series()
    found: list[dict] = []
    for adjustment in ADJUSTMENTS:
        gold = adjusted(further, adjustment).mean("seed")
        for method in methods(models):
            scores = read_approximation(models, method, further)
            if "step" in scores.dims and variant not in ("sgd", "sgd_delete"):
                continue  # its horizon is that of SGD
            if adjustment == "centred":
                scores = gold_agreement.centred(scores)
            for metric, measure in gold_agreement.METRICS.items():
                named = {"adjustment": adjustment, "method": method, "metric": metric}
                found += agreement_rows(measure(gold, scores), named)
    table = pd.DataFrame(found).assign(variant=variant, num_seeds=further.sizes["seed"])
    return table.assign(epoch=table["step"].map(epochs))


def agreement_rows(agreement, named: dict) -> Iterator[dict]:
    """Yield rows of all dampings, and of the best one at each step."""
    if "damping" in agreement.dims:
        yield from gold_agreement.rows(agreement, choice="all", **named)
        best = gold_agreement.best_damping(agreement)
        yield from gold_agreement.rows(best, choice="best", **named)
    else:
        yield from gold_agreement.rows(agreement, choice="none", **named)


if __name__ == "__main__":
    main(__doc__, analyse)
