"""Make tables of the page: heat maps, and tables as they stand in their files."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
import xarray as xr

from bayestda import statistics
from bayestda.page.model import Cell, Table
from bayestda.plots import style

HEAT = sns.diverging_palette(40, 245, s=85, l=55, as_cmap=True)  # orange: harms, blue: helps
INK = "#111111"  # legible on all of them: a contrast of 5 or more
MAX_ROWS = 400


def heat(value: float, text: str, small: str = "") -> Cell:
    """Return a cell coloured by a value from -1 to 1."""
    if not math.isfinite(value):
        return Cell("n/a")
    return Cell(text, small, mpl.colors.to_hex(HEAT((value + 1) / 2)), INK)


def by_label(title: str, scores: xr.DataArray, called: Callable[[Any], str]) -> Table:
    """Return a heat map of mean scores over pairs by their two labels, in units of the largest one.

    Args:
        title: Name of the method in words.
        scores: Scores of dims (seed, checkpoint, train, test) with the labels of both splits as
            coordinates.
        called: Function from a label to its name.
    """
    mean = statistics.run_means(scores).mean("seed").transpose("train", "test")
    frame = pd.DataFrame(mean.values, scores["train_label"].values, scores["test_label"].values)
    means = frame.groupby(level=0).mean().T.groupby(level=0).mean().T
    largest = np.abs(means.to_numpy()).max()
    scaled = means / largest if largest else means
    rows = [
        [
            Cell(f"train {called(label)}"),
            *(heat(value, style.short(value)) for value in scaled.loc[label]),
        ]
        for label in scaled.index
    ]
    return Table(title, ["", *(f"test {called(label)}" for label in scaled.columns)], rows)


def correlations(scores: Mapping[str, xr.DataArray], kind: str) -> Table:
    """Return a heat map of the correlations between the mean scores of methods over all pairs.

    Args:
        scores: Scores of dims (seed, checkpoint, train, test) by method, all of the same examples.
        kind: ``pearson`` or ``spearman``.
    """
    maps_TNM = np.stack([
        statistics.run_means(own).mean("seed").transpose("train", "test") for own in scores.values()
    ])  # fmt: skip
    matrix_TT = statistics.correlation_matrix(maps_TNM, kind, "all_pairs")
    labels = [style.label(name) for name in scores]
    rows = [
        [Cell(label), *(heat(value, style.short(value)) for value in row)]
        for label, row in zip(labels, matrix_TT, strict=True)
    ]
    return Table(f"{kind.capitalize()} correlation of mean scores", ["", *labels], rows)


def whole(title: str, table: pd.DataFrame, source: str, words: Mapping[str, str]) -> Table:
    """Return all columns of a table and its first 400 rows, to be shown when asked for.

    Args:
        title: Text above the table.
        table: Numbers and words.
        source: Name of the file that the table comes from.
        words: Explanations by column.
    """
    rows: Sequence[Sequence[Cell]] = [
        [_plain(value) for value in row] for row in table.head(MAX_ROWS).itertuples(index=False)
    ]
    columns = [str(column) for column in table.columns]
    more = f", first {MAX_ROWS} of {len(table):,} rows" if len(table) > MAX_ROWS else ""
    explained = {name: text for name, text in words.items() if name in columns}
    return Table(title + more, columns, rows, explained, folded=True, source=source)


def _plain(value: object) -> Cell:
    if isinstance(value, (float, np.floating)):
        return Cell(style.number(f"{value:.4g}") if math.isfinite(value) else "–")
    return Cell(f"{value:,}" if isinstance(value, (int, np.integer)) else str(value))
