"""The most helpful and the most harmful rows for a few test rows, in the units of the file.

    python analysis/fimo_examples.py [--task NAME ...]

Reads   results/fimo_<task>/further/, data/<task>/
Writes  results/fimo_<task>/examples.csv

Gold scores at the last epoch (full adjustment, mean over orders of the data) of the first final
model; a row of the table is a test row, or one of its helpful or harmful training rows.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from bayestda.experiments.data import tables
from bayestda.experiments.final_models import FinalModels
from bayestda.experiments.final_results import adjusted, main, read_further, write_table

TESTS, EXAMPLES = 5, 3


def analyse(models: FinalModels) -> Iterator[Path]:
    """Write the table of one task."""
    if models.task not in tables.TABLES:
        return
    gold = adjusted(read_further(models), "full").mean("seed").isel(train_seed=0, step=-1)
    rows = tables.read_rows(models.task)
    nearest = [of_test(gold.isel(test=place), rows) for place in range(TESTS)]
    yield write_table(models, "examples", pd.concat(nearest))


def of_test(gold: xr.DataArray, rows: pd.DataFrame) -> pd.DataFrame:
    """Return a test row and the training rows that help and harm it most.

    Args:
        gold: Gold scores of a test row, dims (left_out).
        rows: Rows of the file, by row number.
    """
    order = np.argsort(gold.values)
    helpful, harmful = order[::-1][:EXAMPLES], order[:EXAMPLES]
    test = int(gold["test"])
    parts = [
        rows.loc[[test]].assign(role="test", score=np.nan),
        *(
            rows.loc[gold["left_out"].values[chosen]].assign(role=role, score=gold.values[chosen])
            for role, chosen in (("helpful", helpful), ("harmful", harmful))
        ),
    ]
    table = pd.concat(parts).rename_axis("row").reset_index()
    return table[["role", "score", "row", *rows.columns]].assign(test=test)


if __name__ == "__main__":
    main(__doc__, analyse)
