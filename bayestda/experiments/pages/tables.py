"""Make tables of the page from the CSV tables and the summary of an experiment."""

import math
from collections.abc import Iterable, Mapping

import pandas as pd

from bayestda.experiments import metrics, paths
from bayestda.experiments.figures import names
from bayestda.experiments.grid import Experiment
from bayestda.experiments.pages.words import LONG_COLUMNS
from bayestda.page.model import Cell, Table
from bayestda.page.tables import heat, whole
from bayestda.plots import style


def summary(experiment: Experiment) -> list[Table]:
    """Return the table of summary.md; none if it has not been made."""
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
    """Return ``.14 (.09 to .19)`` as a number and its interval."""
    number, _, interval = text.partition(" (")
    return Cell(style.number(number) or "–", style.number(interval.removesuffix(")")))


def p_values(table: pd.DataFrame) -> Table:
    """Return mean p-values by the number of checkpoints that are averaged."""
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
    """Return an estimate with its interval, or a dash if it is not there."""
    if key not in rows.index:
        return Cell("–")
    value, low, high = (float(rows.loc[key, f"{name}{end}"]) for end in ("", "_low", "_high"))
    return Cell(style.short(value), _interval(max(low, 0.0), min(high, 1.0)))


def _interval(low: float, high: float) -> str:
    both = math.isfinite(low) and math.isfinite(high)
    return f"{style.short(low)} to {style.short(high)}" if both else ""


def correlations(table: pd.DataFrame, kind: str) -> Table:
    """Return a heat map of correlations between mean scores.

    Positive = the same training examples are found helpful.
    """
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


def folded(read: Mapping[str, pd.DataFrame], titles: Mapping[str, str]) -> list[Table]:
    """Return tables as they stand in their files, to be shown when asked for."""
    notes = LONG_COLUMNS | metrics.column_notes()
    return [whole(titles[name], table, f"{name}.csv", notes) for name, table in read.items()]
