"""Read the tables of final-model-only attribution, and draw their figures."""

from collections.abc import Iterator

import pandas as pd

from bayestda.experiments import paths
from bayestda.experiments.figures import fimo
from bayestda.experiments.figures.read_tables import read_csv
from bayestda.experiments.final_models import FinalModels
from bayestda.experiments.pages import tables
from bayestda.experiments.pages.readable import as_written, readable
from bayestda.experiments.pages.words import FINAL_TABLES
from bayestda.page.drawings import inline_svg
from bayestda.page.model import Drawing, Section


def made_by(models: FinalModels, table: str) -> str:
    """Return the command that makes a table of a task."""
    return f"python analysis/fimo_{table}.py {models.flags}"


def sections(models: FinalModels) -> tuple[list[Section], list[str]]:
    """Return figures of agreement, all tables that can be read, and what to say of the others."""
    drawn: list[Drawing] = []

    def read(name: str) -> pd.DataFrame:
        path, command = paths.table(models.name, name), made_by(models, name)
        table = read_csv(path, command)
        with as_written(path, command):
            drawn.extend(_agreement(table) if name == "agreement" else ())
        return table

    there = [name for name in FINAL_TABLES if paths.table(models.name, name).exists()]
    found, unreadable = readable(there, read)
    text = (
        "Further training from the given model with all data, and without each example; methods "
        "approximate it from the final model alone. All scores: positive = the example helps.",
    )
    shown = [
        Section("agreement", "Who approximates further training?", text, drawn),
        Section("numbers", "All numbers", tables=tables.folded(found, FINAL_TABLES)),
    ]
    return [section for section in shown if section.drawings or section.tables], unreadable


def _agreement(table: pd.DataFrame) -> Iterator[Drawing]:
    chosen = table[(table["adjustment"] == "full") & (table["choice"] != "all")]
    chosen = chosen[(chosen["metric"] == "cosine") & (chosen["variant"] != "scratch")]
    caption = (
        "Cosine over left-out examples, mean over test points and final models; bands: standard "
        "error over test points. Best λ: chosen at each epoch by looking."
    )
    for variant, own in chosen.groupby("variant"):
        title = f"Agreement with further training, {variant}"
        svg = inline_svg(fimo.agreement(own, "", "cosine"), f"{title}. {caption}")
        yield Drawing(title, svg, caption, wide=True)
