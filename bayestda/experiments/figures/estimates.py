"""Figures of our own: estimates with their intervals, one dot a method (variance, reliability)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayestda.experiments.figures.names import is_variant, ordered
from bayestda.plots.style import REFERENCE, caption, colour, label, panels, styled


@styled
def estimates(
    table: pd.DataFrame, heading: str, quantity: str, limits: tuple[float, float], note: str
) -> Figure:
    """Draw dots with intervals: one panel a subject, one line a quantity, one colour a method.

    Args:
        table: Columns panel, category (a line; order of appearance is kept), method, value, low,
            high (NaN where no interval is known).
        heading: Title of the figure.
        quantity: Label of the horizontal axis.
        limits: Range of the horizontal axis, and more where dots or intervals reach
            further, up to half of its width.
        note: Caption, which says how to read it.
    """
    subjects = list(table["panel"].unique())
    methods = ordered(list(table["method"]))
    tallest = max(table[table["panel"] == name]["category"].nunique() for name in subjects)
    height = 1.3 + tallest * (0.25 + 0.13 * len(methods))
    figure, axes = panels(len(subjects), (4.6, height), columns=2)
    for axis, name in zip(axes, subjects, strict=True):
        _dots(axis, table[table["panel"] == name], methods)
        axis.set_xlim(*_range(table, limits))
        axis.set_title(name)
        axis.set_xlabel(quantity)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center")
    figure.suptitle(heading, x=0.01, ha="left", weight="bold")
    caption(figure, note)
    return figure


def _range(table: pd.DataFrame, limits: tuple[float, float]) -> tuple[float, float]:
    """Return the limits of the axis, widened for the data but not for a very wide interval."""
    width = limits[1] - limits[0]
    margin = 0.02 * width
    reached = table[["value", "low", "high"]].to_numpy().ravel()
    low = np.fmin.reduce(reached, initial=limits[0])
    high = np.fmax.reduce(reached, initial=limits[1])
    return (
        max(low - margin, limits[0] - width / 2),
        min(high + margin, limits[1] + width / 2),
    )


def _dots(axis: Axes, rows: pd.DataFrame, methods: list[str]) -> None:
    categories = list(rows["category"].unique())
    offsets = np.linspace(-0.3, 0.3, len(methods)) if len(methods) > 1 else [0.0]
    for method, offset in zip(methods, offsets, strict=True):
        own = rows[rows["method"] == method]
        heights = [categories.index(category) + offset for category in own["category"]]
        axis.hlines(heights, own["low"], own["high"], color=colour(method), lw=1.6, alpha=0.6)
        axis.plot(
            own["value"],
            heights,
            "o",
            ms=5,
            color=colour(method),
            label=label(method),
            mfc="white" if is_variant(method) else colour(method),
        )
    axis.axvline(0, color=REFERENCE, lw=0.8, zorder=0)
    axis.set_yticks(range(len(categories)), categories)
    axis.set_ylim(len(categories) - 0.5, -0.5)
    axis.grid(axis="x", color="0.92")
    for boundary in range(1, len(categories)):
        axis.axhline(boundary - 0.5, color="0.88", lw=0.8)
