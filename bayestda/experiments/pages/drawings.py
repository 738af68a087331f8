"""Draw the figures of the papers' tables for the page."""

import pandas as pd

from bayestda.experiments.figures.catalogue import FIGURES
from bayestda.experiments.figures.damping import damping_curve
from bayestda.experiments.grid import Experiment
from bayestda.page.drawings import inline_svg
from bayestda.page.model import Drawing


def of_table(experiment: Experiment, table: str) -> list[Drawing]:
    """Draw the figures of a table that have a title, as :data:`FIGURES` lists them."""
    return [
        Drawing(
            entry.title,
            inline_svg(figure, f"{entry.title}. {entry.caption}"),
            entry.caption,
            wide=True,
        )
        for entry in FIGURES.values()
        if entry.title and entry.table == table and not entry.comparing
        for _, figure in entry.draw(experiment)
    ]


def damping(table: pd.DataFrame) -> Drawing:
    """Draw the agreement of influence functions with LOO by damping."""
    title = "Influence function and LOO, by damping"
    caption = "Pearson correlation; bands: 95 % jackknife intervals over seeds."
    return Drawing(title, inline_svg(damping_curve(table, ""), title), caption, wide=True)
