"""Find runs that have results, and tables that are of other runs."""

import re
from collections.abc import Iterator

import pandas as pd

from bayestda.experiments import paths
from bayestda.experiments.grid import Experiment

METHOD_COLUMNS = ("method", "reference", "method_a", "method_b")
METHODS_OF = {"damping": ("loo", "influence"), "accuracy": ("predictions",)}
OF_ALL_RUNS = ("variance",)  # tables that take more of a crossed design than a sample


def runs(experiment: Experiment, method: str, independent: bool = True) -> set[str]:
    """Return names of the runs that have scores of a method, or ``predictions``.

    Args:
        experiment: The experiment.
        method: Name of the method.
        independent: Whether of the crossed design only the grid's diagonal, a sample, is taken
            (:func:`bayestda.experiments.analysis.independent_scores`).
    """
    if method == "predictions":
        folder = paths.predictions(experiment.name, "x").parent
    else:
        folder = paths.scores(experiment.name, method, "x").parent
    found = {file.stem for file in folder.glob("[!.]*.nc")}
    if not independent or experiment.randomness != "crossed":
        return found
    return found & {run.name for run in experiment.runs() if run.init == run.order}


def of_other_runs(experiment: Experiment, name: str, table: pd.DataFrame) -> str:
    """Say of how many runs a table is, and how many there are now; "" if they are the same.

    Raises:
        KeyError: The table does not say of how many runs it is.
    """
    for methods, count in _counts(name, table):
        there = [runs(experiment, method, name not in OF_ALL_RUNS) for method in methods]
        now = len(set.intersection(*there))
        if count != now:
            return _differing(count, now)
    return ""


def summary_of_other_runs(experiment: Experiment, method: str) -> str:
    """Say the same of summary.md, whose head has the number of runs of the first method."""
    path = paths.results(experiment.name) / "summary.md"
    head = path.read_text(errors="replace") if path.exists() else ""
    count, now = re.search(r": (\d+) seeds x", head), len(runs(experiment, method))
    return _differing(int(count[1]), now) if count and int(count[1]) != now else ""


def _differing(count: int, now: int) -> str:
    return f"is of {count} runs, and there are {now} now"


def _counts(name: str, table: pd.DataFrame) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield methods, and the number of runs of each row about them."""
    columns = [column for column in METHOD_COLUMNS if column in table]
    for *named, count in table[[*columns, "n_seeds"]].drop_duplicates().itertuples(index=False):
        found = tuple(method for method in named if isinstance(method, str))
        yield METHODS_OF.get(name, found), int(count)
