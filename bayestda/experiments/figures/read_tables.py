"""Reading of the tables and pair files that the scripts under ``analysis/`` write."""

import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import xarray as xr

from bayestda.errors import UserError
from bayestda.experiments import grid, paths, results, tasks
from bayestda.experiments.analysis import independent_scores
from bayestda.experiments.figures.names import MODELS, RANDOMNESS
from bayestda.experiments.grid import Experiment

_COLUMNS = {name: ("scope", "value") for name in ("reliability", "correlations")}
"""Columns that tables of earlier versions lack."""


def read_table(experiment: Experiment, name: str) -> pd.DataFrame:
    """Read a CSV table of an experiment.

    Args:
        experiment: Owner of the table.
        name: Name of the table and of the script that makes it, for example ``correlations``.

    Raises:
        UserError: The table is missing or damaged.
    """
    path, command = paths.table(experiment.name, name), made_by(experiment, name)
    table = read_csv(path, command)
    missing = [column for column in _COLUMNS.get(name, ()) if column not in table]
    if missing:
        raise _damaged(path, command, f"no column {missing[0]!r}")
    return table


def read_csv(path: Path, command: str) -> pd.DataFrame:
    """Read a CSV table that a command makes.

    Raises:
        UserError: The table is missing or damaged.
    """
    if not path.exists():
        raise UserError(f"{path} is missing: make it with `{command}`")
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise _damaged(path, command, type(error).__name__) from error
    if table.empty:
        raise _damaged(path, command, "no rows")
    return table


def read_pairs(experiment: Experiment, method: str) -> xr.Dataset:
    """Read the statistics over seeds of each pair: mean, std, p, q, n_seeds and others.

    Raises:
        UserError: The file, or already the scores it is made from, is missing or damaged.
    """
    path = paths.pairs(experiment.name, method)
    if not path.exists():
        independent_scores(experiment, method)  # where these are missing, say so instead
    command = made_by(experiment, "p_values")
    pairs = results.open_scores(path, command)
    scores = results.settings_of(pairs).get("scores", {})
    results.check_sign(path, scores, method, command)
    return pairs


def made_by(experiment: Experiment, script: str) -> str:
    """Return the command that makes a table of an experiment."""
    return f"python analysis/{script}.py --experiment {experiment.name}"


def existing(found: list[Experiment], path_of: Callable[[Experiment], Path]) -> list[Experiment]:
    """Return the experiments that have what a comparing figure draws; name the others on stderr.

    Returns:
        In the order of the paper's grid, then by name. At least one experiment: if none has it,
        the first, whose reading then fails by name.
    """
    found = sorted(found, key=_place)
    has = [experiment for experiment in found if path_of(experiment).exists()]
    for experiment in found:
        if experiment not in has:
            print(f"left out: {path_of(experiment)} does not exist", file=sys.stderr)
    return has or found[:1]


def p_value_table(found: list[Experiment]) -> pd.DataFrame:
    """Read the p_values.csv of experiments with, per row, what the experiment is.

    Returns:
        Its columns (method, num_checkpoints, n_seeds, mean_p, mean_p_low, mean_p_high,
        expected_mean_p, ...) and model, task, randomness (in words), num_train.

    Raises:
        UserError: No experiment has the table, or it is damaged.
    """
    chosen = existing(found, lambda experiment: paths.table(experiment.name, "p_values"))
    return pd.concat(
        [
            read_table(experiment, "p_values").assign(
                model=MODELS.get(experiment.model, experiment.model),
                task=tasks.title(experiment.task),
                randomness=RANDOMNESS[experiment.randomness],
                num_train=experiment.num_train,
            )
            for experiment in chosen
        ],
        ignore_index=True,
    )


def _place(experiment: Experiment) -> tuple[int, str]:
    paper = grid.PAPER_GRID
    return (paper.index(experiment) if experiment in paper else len(paper), experiment.name)


def _damaged(path: Path, command: str, reason: str) -> UserError:
    return UserError(
        f"{path} is damaged or not a table of this project ({reason}): "
        f"delete it and run `{command}`"
    )
