"""The result table of an experiment, as README shows it, and where its figures are.

    python analysis/summary.py [--experiment NAME ...]

Reads   results/<experiment>/{p_values,reliability,correlations,accuracy}.csv
Writes  results/<experiment>/summary.md
Takes 2 s.
"""

from pathlib import Path

import pandas as pd

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.analysis import main
from bayestda.experiments.figures.read_tables import read_table
from bayestda.experiments.grid import METHODS, Experiment
from bayestda.files import atomic

HEADER = (
    "method", "mean p", "p < .05", "q < .05", "same sign",
    "Pearson with LOO", "Spearman with LOO", "split-half", "within labels",
)  # fmt: skip


def analyse(experiment: Experiment) -> list[Path]:
    """Write and print the table of one experiment."""
    folder = paths.results(experiment.name)
    try:
        text = summary(experiment)
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
    """The table in markdown, and what it is about."""
    tests = read_table(experiment, "p_values")
    tests = tests[tests["num_checkpoints"] == tests["num_checkpoints"].max()]
    tests = tests[tests["method"].isin(METHODS)]
    rows = [row(experiment, test) for _, test in tests.iterrows()]
    return "\n".join([introduction(experiment, tests.iloc[0]), "", *markdown(rows)]) + "\n"


def introduction(experiment: Experiment, test: pd.Series) -> str:
    """What the table is about: models, accuracy, and how to read the columns."""
    accuracy = read_table(experiment, "accuracy").set_index("split")
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


def row(experiment: Experiment, test: pd.Series) -> tuple[str, ...]:
    """One method's cells."""
    method = test["method"]
    return (
        method,
        interval(test[["mean_p", "mean_p_low", "mean_p_high"]].clip(0, 1)),
        f"{test['share_p_below_05']:.0%}",
        f"{test['share_q_below_05']:.0%}",
        f"{test['sign_agreement']:.0%}",
        *(with_loo(experiment, method, kind) for kind in ("pearson", "spearman")),
        from_reliability(experiment, method, "split_half", "all_pairs"),
        from_reliability(experiment, method, "correlation", "within_labels"),
    )


def from_reliability(experiment: Experiment, method: str, quantity: str, scope: str) -> str:
    """A quantity of a method, alone or with LOO."""
    table = read_table(experiment, "reliability")
    found = table[
        (table["method"] == method) & (table["quantity"] == quantity) & (table["scope"] == scope)
    ]
    return "" if found.empty else interval(found.iloc[0][["value", "low", "high"]])


def with_loo(experiment: Experiment, method: str, kind: str) -> str:
    """Correlation of a method's mean scores with those of LOO."""
    table = read_table(experiment, "correlations")
    found = table[
        (table["method_a"] == "loo")
        & (table["method_b"] == method)
        & (table["statistic"] == "mean")
        & (table["kind"] == kind)
        & (table["scope"] == "all_pairs")
    ]
    return "" if found.empty else interval(found.iloc[0][["value", "low", "high"]])


def interval(values) -> str:
    """Write ``estimate (low to high)``, or the estimate alone where it has no interval."""
    estimate, low, high = (f"{value:.2f}".replace("0.", ".") for value in values)
    return estimate if "nan" in (low, high) else f"{estimate} ({low} to {high})"


def markdown(rows: list[tuple[str, ...]]) -> list[str]:
    """Lines of a markdown table."""
    lines = [HEADER, tuple("---" for _ in HEADER), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


if __name__ == "__main__":
    main(__doc__, analyse)
