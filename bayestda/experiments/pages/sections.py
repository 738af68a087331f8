"""Make the sections of an image experiment's page: figures, tables, and how to read them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import xarray as xr

from bayestda.experiments import paths
from bayestda.experiments.figures.read_tables import made_by, read_table
from bayestda.experiments.grid import Experiment
from bayestda.experiments.pages import drawings, tables
from bayestda.experiments.pages.readable import as_written, readable
from bayestda.experiments.pages.runs import of_other_runs
from bayestda.experiments.pages.words import TABLES, VARIANCE, VARIANCE_CROSSED
from bayestda.page.model import Drawing, Section, Table
from bayestda.page.sections import by_label, effects

Scores = dict[str, xr.DataArray]


@dataclass(frozen=True, eq=False)
class Piece:
    """Hold a table of an experiment, and what the page makes of it.

    Attributes:
        table: Table as it stands in its file.
        older: Sentence if the table is of other runs than there are now, else "".
        drawings: Figures of the table.
        tables: Tables made of it.
        facts: Facts for the head of the page.
    """

    table: pd.DataFrame
    older: str = ""
    drawings: Sequence[Drawing] = ()
    tables: Sequence[Table] = ()
    facts: Sequence[tuple[str, str]] = ()


def pieces(experiment: Experiment) -> tuple[dict[str, Piece], list[str]]:
    """Return what each table tells, and a sentence about each that cannot be read."""
    there = [name for name in TABLES if paths.table(experiment.name, name).exists()]

    def read(name: str) -> Piece:
        table, command = read_table(experiment, name), made_by(experiment, name)
        with as_written(paths.table(experiment.name, name), command):
            differing = of_other_runs(experiment, name, table)
            older = f"Table {name} {differing}: {command}" if differing else ""
            own = PARTS[name](experiment, table) if name in PARTS else {}
            drawn = [*drawings.of_table(experiment, name), *own.pop("drawings", ())]
            return Piece(table, older, drawings=drawn, **own)

    return readable(there, read)


def _correlations(_: Experiment, table: pd.DataFrame) -> dict:
    kinds = ("pearson", "spearman")
    return {"tables": [tables.correlations(table, kind) for kind in kinds]}


def _accuracy(_: Experiment, table: pd.DataFrame) -> dict:
    share = table.set_index("split")["accuracy"]
    return {"facts": [("accuracy", f"{share['test']:.1%} test, {share['train']:.1%} train")]}


PARTS: dict[str, Callable[[Experiment, pd.DataFrame], dict]] = {
    "p_values": lambda _, table: {"tables": [tables.p_values(table)]},
    "correlations": _correlations,
    "accuracy": _accuracy,
    "damping": lambda _, table: {"drawings": [drawings.damping(table)]},
}


def sections(
    experiment: Experiment, scores: Scores, read: Mapping[str, Piece], classes: Sequence[str]
) -> list[Section]:
    """Return all sections of an experiment's page.

    Args:
        experiment: The experiment.
        scores: Its scores by method.
        read: Its tables, as :func:`pieces` returns them.
        classes: Names of the labels 0, 1, ...
    """
    shown = [
        Section("summary", "In short", TABLES_OF_ALL, tables=tables.summary(experiment)),
        _tests(scores, read),
        _agreement(read),
        _variance(experiment, read),
        by_label(scores, lambda label: classes[label]),
        Section("numbers", "All numbers", NUMBERS, _elsewhere(read),
                tables=tables.folded({name: own.table for name, own in read.items()}, TABLES)),
    ]  # fmt: skip
    return [section for section in shown if section.drawings or section.tables]


TABLES_OF_ALL = (
    "Each training example has, for each test example, a score that is random: it depends on the "
    "seed of the training run. Here is how far the scores of each method can be trusted, and how "
    "far they agree with leaving the example out and training again (LOO).",
)
NUMBERS = ("The tables behind the figures, as the analysis scripts write them.",)


def _tests(scores: Scores, read: Mapping[str, Piece]) -> Section:
    """Return histograms of p-values, and their table."""
    read_pieces = _of(read, "p_values")
    section = effects(scores)
    drawn = [*section.drawings, *(drawing for piece in read_pieces for drawing in piece.drawings)]
    shown = [table for piece in read_pieces for table in piece.tables]
    return replace(section, drawings=drawn, tables=shown)


def _agreement(read: Mapping[str, Piece]) -> Section:
    """Return heat maps of correlations, reliability, and damping."""
    text = (
        "Correlations between the mean scores of two methods over all pairs; positive = the same "
        "training examples are found helpful. Below each: its 95 % interval over seeds.",
    )
    found = _of(read, "correlations", "reliability", "damping")
    drawn = [drawing for piece in found for drawing in piece.drawings]
    shown = [table for piece in found for table in piece.tables]
    return Section("agreement", "Do the methods agree?", text, drawn, shown)


def _of(read: Mapping[str, Piece], *names: str) -> list[Piece]:
    return [read[name] for name in names if name in read]


def _elsewhere(read: Mapping[str, Piece]) -> list[Drawing]:
    """Return drawings of tables that have no section of their own."""
    own = ("p_values", "correlations", "reliability", "damping", "variance")
    return [
        drawing for name, piece in read.items() if name not in own for drawing in piece.drawings
    ]


def _variance(experiment: Experiment, read: Mapping[str, Piece]) -> Section:
    text = VARIANCE_CROSSED if experiment.randomness == "crossed" else VARIANCE
    drawn = [drawing for piece in _of(read, "variance") for drawing in piece.drawings]
    return Section("variance", "Where does the variance come from?", [text], drawn)
