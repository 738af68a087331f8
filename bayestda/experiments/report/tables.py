"""Tables of the page: the CSV tables and the summary of an experiment, and heat maps as tables."""

import math
from collections.abc import Iterable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
import xarray as xr

from bayestda import statistics
from bayestda.experiments import metrics, paths
from bayestda.experiments.figures import names
from bayestda.experiments.grid import Experiment
from bayestda.experiments.report.model import Cell, Table
from bayestda.experiments.report.words import LONG_COLUMNS
from bayestda.plots import style

HEAT = sns.diverging_palette(40, 245, s=85, l=55, as_cmap=True)  # orange: harms, blue: helps
INK = "#111111"  # legible on all of them: a contrast of 5 or more
MAX_ROWS = 400


def summary(experiment: Experiment) -> list[Table]:
    """The table of summary.md; none if it has not been made."""
    path = paths.results(experiment.name) / "summary.md"
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"
    ]
    if len(rows) < 3:
        return []
    header, _, *body = rows
    cells = [
        [Cell(style.label(name)), *(_with_interval(text) for text in others)]
        for name, *others in body
    ]
    return [
        Table("Reliability and agreement", header, cells, metrics.summary_notes(), source=path.name)
    ]


def _with_interval(text: str) -> Cell:
    """``.14 (.09 to .19)`` as a number and its interval."""
    number, _, interval = text.partition(" (")
    return Cell(style.number(number) or "–", style.number(interval.removesuffix(")")))


def p_values(table: pd.DataFrame) -> Table:
    """Mean p-values by the number of checkpoints that are averaged."""
    counts = sorted(table["num_checkpoints"].unique())
    rows = []
    for method in names.ordered(list(table["method"])):
        own = table[table["method"] == method].set_index("num_checkpoints")
        rows.append(
            [Cell(style.label(method)), *(_estimate(own, count, "mean_p") for count in counts)]
        )
    title = "Mean p-value by the number of checkpoints that are averaged in each run"
    explained = {"checkpoints": "the last ones of each run; .5 if no pair had an effect"}
    columns = ["method", *(f"{count} checkpoint{'s' if count > 1 else ''}" for count in counts)]
    return Table(title, columns, rows, explained, source="p_values.csv")


def _estimate(rows: pd.DataFrame, key: object, name: str) -> Cell:
    """An estimate with its interval, if it is there."""
    if key not in rows.index:
        return Cell("–")
    value, low, high = (float(rows.loc[key, f"{name}{end}"]) for end in ("", "_low", "_high"))
    return Cell(style.short(value), _interval(max(low, 0.0), min(high, 1.0)))


def _interval(low: float, high: float) -> str:
    both = math.isfinite(low) and math.isfinite(high)
    return f"{style.short(low)} to {style.short(high)}" if both else ""


def correlations(table: pd.DataFrame, kind: str) -> Table:
    """Heat map of correlations between mean scores, positive = agreement about who helps."""
    chosen = table[
        (table["statistic"] == "mean") & (table["kind"] == kind) & (table["scope"] == "all_pairs")
    ]
    methods = names.ordered([*chosen["method_a"], *chosen["method_b"]])
    found = {frozenset(pair): row for *pair, row in _pairs(chosen)}
    rows = [
        [
            Cell(style.label(a)),
            *(_correlation(found.get(frozenset((a, b))), a == b) for b in methods),
        ]
        for a in methods
    ]
    columns = ["", *map(style.label, methods)]
    return Table(f"{kind.capitalize()} correlation of mean scores", columns, rows,
                 source="correlations.csv")  # fmt: skip


def _pairs(table: pd.DataFrame) -> Iterable[tuple]:
    return ((row.method_a, row.method_b, row) for row in table.itertuples())


def _correlation(row, diagonal: bool) -> Cell:
    if diagonal or row is None:
        return Cell("1" if diagonal else "n/a")
    return heat(row.value, style.short(row.value), _interval(row.low, row.high))


def by_label(name: str, scores: xr.DataArray, classes: Sequence[str]) -> Table:
    """Heat map of mean scores over pairs by their two labels, as multiples of the largest one.

    Args:
        name: of the method, in words.
        scores: dims (seed, checkpoint, train, test), with the labels of both as coordinates.
        classes: names of the labels 0, 1, ...
    """
    mean = statistics.run_means(scores).mean("seed").transpose("train", "test")
    frame = pd.DataFrame(mean.values, scores["train_label"].values, scores["test_label"].values)
    means = frame.groupby(level=0).mean().T.groupby(level=0).mean().T
    scaled = means / np.abs(means.to_numpy()).max()
    rows = [
        [
            Cell(f"train {classes[label]}"),
            *(heat(value, style.short(value)) for value in scaled.loc[label]),
        ]
        for label in scaled.index
    ]
    return Table(name, ["", *(f"test {classes[label]}" for label in scaled.columns)], rows)


def heat(value: float, text: str, small: str = "") -> Cell:
    """A cell coloured by a value from -1 to 1."""
    if not math.isfinite(value):
        return Cell("n/a")
    return Cell(text, small, mpl.colors.to_hex(HEAT((value + 1) / 2)), INK)


def folded(read: Mapping[str, pd.DataFrame], titles: Mapping[str, str]) -> list[Table]:
    """Tables as they stand in their files, shown when asked for."""
    return [whole(titles[name], table, f"{name}.csv") for name, table in read.items()]


def whole(title: str, table: pd.DataFrame, source: str) -> Table:
    """All columns of a table, and its first 400 rows."""
    rows = [
        [_plain(value) for value in row] for row in table.head(MAX_ROWS).itertuples(index=False)
    ]
    columns = [str(column) for column in table.columns]
    more = f", first {MAX_ROWS} of {len(table):,} rows" if len(table) > MAX_ROWS else ""
    notes = LONG_COLUMNS | metrics.column_notes()
    explained = {name: text for name, text in notes.items() if name in columns}
    return Table(title + more, columns, rows, explained, folded=True, source=source)


def _plain(value: object) -> Cell:
    if isinstance(value, (float, np.floating)):
        return Cell(style.number(f"{value:.4g}") if math.isfinite(value) else "–")
    return Cell(f"{value:,}" if isinstance(value, (int, np.integer)) else str(value))
