"""Rows that do not come with the project: check them, and take them over."""

from pathlib import Path

import pandas as pd

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.data import tables
from bayestda.experiments.data.recoding import ACS_COLUMNS
from bayestda.files import atomic


def adopt(task: str, source: Path) -> Path:
    """Take over a file of rows that does not come with the project.

    Args:
        task: Task of the rows.
        source: CSV file. FICO's own, with Bad and Good in words, will do as well.

    Returns:
        The task's folder, with the rows.

    Raises:
        UserError: The file is missing or not that of the task; nothing is written then.
    """
    tables.read_rows(task, source)
    return _adopted(task, source.read_bytes())


def adopt_census(source: str) -> Path:
    """Take over the persons of Massachusetts in 2018 (40,114 of them as Folktables filters).

    Args:
        source: The census bureau's CSV file, ``psam_p25.csv``; or ``folktables``: the package of
            that name, which downloads it.

    Returns:
        The task's folder, with the columns that the task uses.

    Raises:
        UserError: The package is missing, its download fails, or rows are not those of the task;
            nothing is written then.
    """
    file = Path(source)
    rows = downloaded_census() if source == "folktables" else tables.read(file, "folktables")
    tables.check_rows("folktables", rows, source)
    return _adopted("folktables", rows[list(ACS_COLUMNS)].to_csv(index=False).encode())


def downloaded_census() -> pd.DataFrame:
    """Download the persons as the package folktables gives them.

    Raises:
        UserError: The package is missing, or its download fails.
    """
    instead = f"or give the census bureau's own file: {tables.mend('folktables')}"
    try:
        from folktables import ACSDataSource
    except ImportError as error:
        raise UserError(f"run `pip install folktables`, {instead}") from error
    census = ACSDataSource(survey_year="2018", horizon="1-Year", survey="person")
    try:
        return census.get_data(states=["MA"], download=True)
    except OSError as error:
        raise UserError(
            f"the download by folktables failed ({error}): try again, {instead}"
        ) from error


def _adopted(task: str, content: bytes) -> Path:
    destination = paths.root() / "data" / task / f"rows.{tables.TABLES[task].suffix}"
    atomic.write_bytes(destination, content)
    return destination.parent
