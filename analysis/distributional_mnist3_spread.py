"""Do images change the spread of a margin and not its mean? Prediction and retraining.

    python analysis/distributional_mnist3_spread.py

Reads   results/distributional_mnist3_spread/samples.nc  from tda_distributional_scripts/
Writes  results/distributional_mnist3_spread/pairs.csv, .../figures/mnist3_spread.png

A row per chosen pair of a removed image and a query, and per random control at the same query, by
source (predicted, or retrained in runs of other seeds) and difference: the change with its 95 %
interval over runs; of the mean in standard deviations of the margin, of the variance as a share of
it, of the lower tail (the probability below the tenth of the predicting runs) as it is.
"""

import tda.interruption  # noqa: F401

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import xarray as xr

import tda
from tda import paths
from tda.figures import spread, style
from tda.stages.distributional import analyse_script, read, write_table

NAME = "mnist3_spread"


def analyse() -> Iterator[Path]:
    """Write the table and the figure."""
    samples = read(NAME).isel(checkpoint=0, drop=True)
    changed = {
        "predicted": changes(samples, samples["measured"], samples["shift"]),
        "retrained": changes(samples, *retrained(samples)),
    }
    table = pd.concat(
        rows.assign(source=source)
        for source, found in changed.items()
        for rows in of_pairs(samples, found)
    )
    yield write_table(NAME, "pairs", table)
    figure = spread.pairs(samples, table)
    yield style.save(paths.figure(f"distributional_{NAME}", NAME), figure)


def retrained(samples: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """Margins of the retrained runs before, and what each removal changes in them."""
    own = samples[["before", "retrained"]].rename(other_seed="seed", removed="train")
    shifts = (own["retrained"] - own["before"]).transpose("seed", "train", "test")
    return own["before"], shifts


def changes(samples: xr.Dataset, measured: xr.DataArray, shifts: xr.DataArray) -> pd.DataFrame:
    """All differences by removal and query, in their units."""
    below = tda.tail(samples["threshold"].values)
    wanted = {"mean": "mean", "variance": "variance", "tail": below}
    unit = {"mean": measured.std("seed", ddof=1), "variance": measured.var("seed", ddof=1),
            "tail": -1.0}  # fmt: skip
    tables = []
    for name, difference in wanted.items():
        found = tda.distributional_influence(measured, shifts, difference) / unit[name]
        if name == "tail":
            found = found.rename(low="high", high="low")
        tables.append(found.to_dataframe()[["value", "low", "high"]].assign(difference=name))
    return pd.concat(tables).reset_index()


def of_pairs(samples: xr.Dataset, found: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Rows of every chosen pair, and of the controls at its query."""
    controls = samples["removed"].values[samples["control"].values]
    for pair in range(samples.sizes["pair"]):
        at = samples.isel(pair=pair)
        image, query = int(at["pair_train"]), int(at["pair_test"])
        own = found[(found["test"] == query) & found["train"].isin([image, *controls])]
        yield own.assign(
            pair=pair, chosen_by=str(at["pair_difference"].values), only=bool(at["pair_only"]),
            role=["chosen" if name == image else "control" for name in own["train"]],
        )  # fmt: skip


if __name__ == "__main__":
    analyse_script(__doc__, analyse)
