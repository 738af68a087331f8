"""The result table of an experiment, as README shows it, and where its figures are.

    python analysis/summary.py [--experiment NAME ...]

Reads   results/<experiment>/{p_values,reliability,correlations,accuracy}.csv
Writes  results/<experiment>/summary.md

The columns are the metrics that have a summary in bayestda/experiments/metrics.py.
Takes 2 s.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd

from bayestda.errors import UserError
from bayestda.experiments import metrics, paths
from bayestda.experiments.analysis import main
from bayestda.experiments.figures.read_tables import read_table
from bayestda.experiments.grid import METHODS, Experiment
from bayestda.experiments.metrics import Column, Metric
from bayestda.experiments.sample import Estimate
from bayestda.files import atomic

Read = Callable[[str], pd.DataFrame]


def analyse(experiment: Experiment) -> list[Path]:
    """Write and print the table of one experiment."""
    folder = paths.results(experiment.name)
    try:
        text = summary(experiment)
    except UserError:
        raise
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(
            f"a table in {folder} is not as it was written ({error!r}): delete its *.csv and run "
            f"`snakemake --cores all {experiment.name}`"
        ) from error
    path = folder / "summary.md"
    atomic.write_whole(path, lambda file: file.write_text(text))
    print(f"\n{text}")
    return [path, *sorted(paths.figure(experiment.name, "x").parent.glob("*.png"))]


def summary(experiment: Experiment) -> str:
    """Return the table in markdown, and what it is about."""
    read = cache(lambda name: read_table(experiment, name))
    tests = most_checkpoints(read("p_values"))
    names = tests.loc[tests["method"].isin(METHODS), "method"]
    columns = list(metrics.in_summary())
    header = ("method", *(column.heading for _, column in columns))
    rows = [
        (name, *(cell(metric, column, read, name) for metric, column in columns)) for name in names
    ]
    return "\n".join([introduction(experiment, read), "", *markdown(header, rows)]) + "\n"


def introduction(experiment: Experiment, read: Read) -> str:
    """Say what the table is about: models, accuracy, and how to read the columns."""
    tests = most_checkpoints(read("p_values"))
    test = tests[tests["method"].isin(METHODS)].iloc[0]
    accuracy = read("accuracy").set_index("split")
    test_accuracy, train_accuracy = (
        interval(accuracy.loc[split, ["accuracy", "low", "high"]].clip(0, 1))
        for split in ("test", "train")
    )
    return (
        f"{experiment.name}: {test['n_seeds']} seeds x {test['num_checkpoints']} checkpoints, "
        f"{test['n_pairs']} train-test pairs; test accuracy {test_accuracy}, "
        f"train accuracy {train_accuracy}. p: Student's t over seeds (mean .5 if no pair had an "
        "effect); q: Benjamini-Hochberg; correlations of mean scores over all pairs, signed so "
        "that positive means agreement; within labels: Pearson with LOO of scores less their mean "
        "over all pairs with the same two labels; intervals: 95 %, over seeds"
        f"{'' if test['n_seeds'] > 2 else '; an interval needs three seeds'}."
    )


def cell(metric: Metric, column: Column, read: Read, method: str) -> str:
    """Write a metric of one method: an estimate with its interval, or a share without one."""
    table = read(metric.table)
    if metric.table == "p_values":
        row = most_checkpoints(table).set_index("method").loc[method]
        if f"{metric.name}_low" not in row:
            return f"{row[metric.name]:.0%}"
        found = Estimate(*(row[f"{metric.name}{end}"] for end in ("", "_low", "_high")))
    else:
        rows = chosen(table, metric, column, method)
        if rows.empty:
            return ""
        found = Estimate(*rows.iloc[0][["value", "low", "high"]])
    return interval(pd.Series(found).clip(*column.limits))


def chosen(table: pd.DataFrame, metric: Metric, column: Column, method: str) -> pd.DataFrame:
    """Select the rows of a metric in correlations.csv or reliability.csv; none or one."""
    if metric.table == "correlations":
        wanted = {"method_a": "loo", "method_b": method, **metric.rows}
    else:
        wanted = {"method": method, "quantity": metric.name}
    for name, value in (wanted | {"scope": column.scope}).items():
        table = table[table[name] == value]
    return table


def most_checkpoints(tests: pd.DataFrame) -> pd.DataFrame:
    """Select the tests that average the most checkpoints."""
    return tests[tests["num_checkpoints"] == tests["num_checkpoints"].max()]


def interval(values) -> str:
    """Write ``estimate (low to high)``, or the estimate alone where it has no interval."""
    estimate, low, high = (f"{value:.2f}".replace("0.", ".") for value in values)
    return estimate if "nan" in (low, high) else f"{estimate} ({low} to {high})"


def markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Write the lines of a markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


if __name__ == "__main__":
    main(__doc__, analyse)
