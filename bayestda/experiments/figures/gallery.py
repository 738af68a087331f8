"""Rows of captioned images."""

from dataclasses import dataclass

from matplotlib.figure import Figure
from numpy.typing import NDArray

from bayestda.plots.style import styled

TILE, CAPTION, GAP, MARGIN, HEADING = 0.92, 0.5, 0.14, 0.35, 0.4  # inches


@dataclass(frozen=True)
class Tile:
    """An image with its caption; ``edge`` is the colour of its frame."""

    pixels_HWC: NDArray
    caption: str
    edge: str = "0.75"


@dataclass(frozen=True)
class Row:
    """A line of the gallery. A heading starts a new section; None leaves a place empty."""

    name: str
    tiles: tuple[Tile | None, ...]
    heading: str = ""


@styled
def gallery(rows: list[Row], columns: list[str], heading: str, note: str = "") -> Figure:
    """Draw rows of captioned images.

    Args:
        rows: Lines, each with as many places as there are columns.
        columns: Title above each column; an equal title of neighbours is written once.
        heading: Title of the figure.
        note: Text below, about the images or the captions.
    """
    width = 2 * MARGIN + 0.55 + len(columns) * (TILE + GAP)
    headings = sum(bool(row.heading) for row in rows)
    height = 1.15 + len(rows) * (TILE + CAPTION) + headings * HEADING
    figure = Figure(figsize=(width, height))
    figure.text(MARGIN / width, 1 - 0.2 / height, heading, weight="bold", fontsize=12, va="top")
    figure.text(MARGIN / width, 0.12 / height, note, fontsize=8, color="0.35", va="bottom")
    _write_columns(figure, columns, height - 0.72)
    top = height - 0.78
    for row in rows:
        top -= _write_heading(figure, row.heading, top)
        _draw_row(figure, row, top)
        top -= TILE + CAPTION
    return figure


def _left(column: int) -> float:
    """Return the left edge of a column, in inches."""
    return MARGIN + 0.55 + column * (TILE + GAP)


def _write_columns(figure: Figure, columns: list[str], top: float) -> None:
    width, height = figure.get_size_inches()
    for position, name in enumerate(columns):
        if position == 0 or columns[position - 1] != name:
            figure.text(_left(position) / width, top / height, name, fontsize=9, va="bottom")


def _write_heading(figure: Figure, heading: str, top: float) -> float:
    """Write a section's heading at ``top`` inches, and return the height that it takes."""
    if not heading:
        return 0.0
    width, height = figure.get_size_inches()
    figure.text(
        MARGIN / width, (top - 0.12) / height, heading, fontsize=10, weight="bold", va="top"
    )
    return HEADING


def _draw_row(figure: Figure, row: Row, top: float) -> None:
    width, height = figure.get_size_inches()
    middle = (top - TILE / 2) / height
    figure.text(
        (MARGIN + 0.3) / width, middle, row.name, rotation=90, ha="center", va="center", fontsize=9
    )
    for column, tile in enumerate(row.tiles):
        if tile is not None:
            box = (_left(column) / width, (top - TILE) / height, TILE / width, TILE / height)
            _draw_tile(figure, tile, box)


def _draw_tile(figure: Figure, tile: Tile, box: tuple[float, float, float, float]) -> None:
    axis = figure.add_axes(box)
    axis.imshow(tile.pixels_HWC, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.set_xlabel(tile.caption, fontsize=6.5, labelpad=2, linespacing=1.15)
    for spine in axis.spines.values():
        spine.set(visible=True, color=tile.edge, linewidth=2)
