"""Tabular tasks: standardised tensors of a training and a test split, from a file of rows.

The tasks are those of Wei et al. 2025 (table 1): Concrete and Energy are regressions, HELOC and
Folktables classifications; Adult comes with the project, stands in for Folktables, and has its
number of training rows.
Importing this file does not import torch, so that figures start fast; :func:`load` does.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.data.recoding import clean_folktables, clean_heloc, filled
from bayestda.experiments.data.split import Split

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bayestda.model.examples import Data


@dataclass(frozen=True)
class Table:
    """A tabular data set.

    Attributes:
        target: Column to predict.
        regression: Whether the target is a number; else it is a class, 0 or 1.
        num_rows: Number of rows in the file, after they are cleaned.
        num_test: Number of rows of the test split.
        num_train: Number of rows of the training split; None: all others.
        dropped: Columns that give the target away.
        suffix: Suffix of the file's name.
        clean: Function from the rows of the file to those that are used.
        filled: Whether negative values, which are codes, become the column's training mean.
    """

    target: str
    regression: bool
    num_rows: int
    num_test: int
    num_train: int | None = None
    dropped: tuple[str, ...] = ()
    suffix: str = "csv"
    clean: Callable[[pd.DataFrame], pd.DataFrame] = lambda rows: rows
    filled: bool = False

    @property
    def num_outputs(self) -> int:
        """Number of outputs K of a network for this task."""
        return 1 if self.regression else 2


TABLES = {
    "concrete": Table("strength_mpa", True, num_rows=1030, num_test=103),
    "energy": Table("Y1", True, num_rows=768, num_test=77, dropped=("Y2",)),
    "heloc": Table("Good", False, num_rows=9871, num_test=988, clean=clean_heloc, filled=True),
    "adult": Table(
        "salary_>50K", False, num_rows=45222, num_test=10029, num_train=30085,
        dropped=("salary_<=50K",), suffix="parquet",
    ),
    "folktables": Table(
        "high_income", False, num_rows=40114, num_test=10029, clean=clean_folktables
    ),
}  # fmt: skip
FROM_FILE = ("heloc", "folktables")  # rows that do not come with the project


def load(
    task: str, device: "torch.device | str" = "cpu", dtype: "torch.dtype | None" = None
) -> Split:
    """Load both splits as tensors, standardised with the training rows' moments.

    Args:
        task: Name in ``TABLES``.
        device, dtype: Those of x and of regression targets; default float32. Classes are int64.

    Returns:
        x [N D] and y [N] of the split that ``train_test_split(random_state=0)`` of scikit-learn
        gives, in its order.

    Raises:
        UserError: No such task; its file is missing, or not that of the task.
    """
    from bayestda.model.examples import Data

    table, rows = _table(task), read_rows(task)
    train, test = split_rows(len(rows), table.num_test, table.num_train)
    x = rows.drop(columns=[table.target, *table.dropped]).to_numpy(float)
    x = standardised(filled(x, train) if table.filled else x, train)
    y = rows[table.target].to_numpy(float)
    y = standardised(y, train) if table.regression else y

    def data(chosen: np.ndarray) -> "Data":
        inputs, targets = _tensors(x[chosen], y[chosen], table.regression, device, dtype)
        return Data(inputs, targets, rows.index.to_numpy()[chosen])

    return Split(data(train), data(test), _fingerprint(rows, train, test))


def read_rows(task: str, path: Path | None = None) -> pd.DataFrame:
    """Read the cleaned rows of a task, not standardised; their index is the row number in the file.

    Args:
        task: Name in ``TABLES``.
        path: File to read in place of the task's own.

    Raises:
        UserError: The file is missing, cannot be read, or has other columns or numbers of rows.
    """
    table = _table(task)
    path = path or paths.rows(task, table.suffix)
    if not path.exists():
        raise UserError(f"the rows of task {task} are missing ({path}): {mend(task)}")
    return check_rows(task, read(path, task), path)


def read(path: Path, task: str) -> pd.DataFrame:
    """Read the rows of a file as they stand there."""
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} has no rows of task {task} ({_line(error)}): {mend(task)}"
        ) from error


def check_rows(task: str, rows: pd.DataFrame, source: Path | str) -> pd.DataFrame:
    """Clean the rows of a file, and check them.

    Raises:
        UserError: They are not those of the task.
    """
    table, mending = _table(task), mend(task)
    try:
        cleaned = table.clean(rows)
        numbers = cleaned.drop(columns=list(table.dropped)).to_numpy(float)
        cleaned[table.target]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{source} has no rows of task {task} ({_line(error)}): {mending}"
        ) from error
    if len(cleaned) != table.num_rows or not np.isfinite(numbers).all():
        raise UserError(
            f"{source} is not the file of task {task}: it has {len(cleaned)} usable rows and "
            f"{int((~np.isfinite(numbers)).sum())} missing values, not {table.num_rows} and none: "
            f"{mending}"
        )
    return cleaned


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def split_rows(
    num_rows: int, num_test: int, num_train: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return places of training and of test rows, as ``train_test_split(random_state=0)``.

    scikit-learn takes the test rows from the front of a permutation, the training rows after them.
    """
    places = np.random.RandomState(0).permutation(num_rows)
    last = None if num_train is None else num_test + num_train
    return places[num_test:last], places[:num_test]


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each column; 1 for the deviation of a constant one."""
    std = values.std(axis=0)
    return values.mean(axis=0), np.where(std > 0, std, 1.0)


def standardised(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Scale columns to mean 0 and deviation 1 over the training rows."""
    mean, std = moments(values[train])
    return (values - mean) / std


def _table(task: str) -> Table:
    if task not in TABLES:
        raise UserError(f"unknown task {task!r}: choose one of {', '.join(TABLES)}")
    return TABLES[task]


def mend(task: str) -> str:
    """Return advice on how to get a task's rows."""
    if task in FROM_FILE:
        return f"make it with `python data/prepare.py --task {task} --source FILE`"
    path = f"data/{task}/rows.{TABLES[task].suffix}"
    return f"restore it with `git checkout {path}`"


def _tensors(
    x: np.ndarray,
    y: np.ndarray,
    regression: bool,
    device: "torch.device | str",
    dtype: "torch.dtype | None",
) -> tuple["Tensor", "Tensor"]:
    import torch

    dtype = dtype or torch.float32
    targets = torch.tensor(y, device=device, dtype=dtype if regression else torch.int64)
    return torch.tensor(x, device=device, dtype=dtype), targets


def _fingerprint(rows: pd.DataFrame, train: np.ndarray, test: np.ndarray) -> str:
    """Return a hash of the rows as they stand in the file, and of the split."""
    digest = hashlib.sha256(repr(list(rows.columns)).encode())
    for values in (rows.to_numpy("<f8"), rows.index.to_numpy(), train, test):
        digest.update(repr(values.shape).encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:16]
