"""Figures 4 and 6 of the paper: mean p-values against training set size and checkpoints."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bayestda.experiments.figures.names import RANDOMNESS, is_variant, ordered
from bayestda.plots.style import REFERENCE, caption, colour, label, panels, styled

INTERVALS = "Vertical lines: 95 % intervals over seeds (needs three)."
DASHES = dict(
    zip(RANDOMNESS.values(), ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))), strict=True)
)


@styled
def p_value_by_size(table: pd.DataFrame) -> Figure:
    """Draw mean p-values against training set size, one line a method, one panel a model and task.

    Args:
        table: Columns panel, method, num_train, n_seeds and, as in p_values.csv, mean_p,
            mean_p_low, mean_p_high (NaN where no interval is known), expected_mean_p.
    """
    figure = _draw_panels(table, (3.7, 3.0), _size_panel, "Mean p-value against training set size")
    _share_legend(figure)
    return figure


@styled
def p_value_by_checkpoints(table: pd.DataFrame) -> Figure:
    """Draw mean LOO p-values against the number of checkpoints, one line a size and randomness.

    Args:
        table: Columns panel, num_train, randomness (in words, as in :data:`names.RANDOMNESS`) and
            those of p_values.csv: num_checkpoints, n_seeds, mean_p, mean_p_low, ...
    """
    heading = "Mean LOO p-value against the number of checkpoints"
    return _draw_panels(table, (3.9, 4.0), _checkpoint_panel, heading)


def _draw_panels(
    table: pd.DataFrame,
    size: tuple[float, float],
    draw: Callable[[Axes, pd.DataFrame], None],
    heading: str,
) -> Figure:
    names = list(table["panel"].unique())
    figure, axes = panels(len(names), size)
    for axis, name in zip(axes, names, strict=True):
        rows = table[table["panel"] == name]
        draw(axis, rows)
        axis.set_title(f"{name} · {_seeds(rows)}")
        _expected(axis, rows)
    figure.suptitle(heading, x=0.01, ha="left", weight="bold")
    caption(figure, INTERVALS)
    return figure


def _size_panel(axis: Axes, rows: pd.DataFrame) -> None:
    sizes = sorted(rows["num_train"].unique())
    methods = ordered(list(rows["method"]))
    step = 0.015 * (max(sizes) - min(sizes) or 10)
    for method, shift in zip(methods, _shifts(len(methods), step), strict=True):
        look = {"color": colour(method), "ls": "--" if is_variant(method) else "-"}
        line = rows[rows["method"] == method].sort_values("num_train")
        _line(axis, line, "num_train", shift, label=label(method), **look)
    if len(sizes) == 1:
        axis.set_xlim(sizes[0] - 1, sizes[0] + 1)
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.set(xlabel="training set size", ylabel="mean p-value over all pairs")


def _checkpoint_panel(axis: Axes, rows: pd.DataFrame) -> None:
    sizes = sorted(rows["num_train"].unique())
    shades = dict(zip(sizes, _shades(len(sizes)), strict=True))
    lines = _in_order(rows)
    for (randomness, size, line), shift in zip(lines, _shifts(len(lines), 0.05), strict=True):
        look = {"color": shades[size], "ls": DASHES[randomness], "label": f"{size} · {randomness}"}
        _line(axis, line.sort_values("num_checkpoints"), "num_checkpoints", shift, **look)
    axis.set_xticks(sorted(rows["num_checkpoints"].unique()))
    axis.set(xlabel="checkpoints averaged in each run", ylabel="mean p-value of LOO")
    axis.legend(
        title="training set size · randomness",
        title_fontsize=8,
        handlelength=3.5,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
        ncols=min(2, rows["randomness"].nunique()),
    )


def _in_order(rows: pd.DataFrame) -> list[tuple[str, int, pd.DataFrame]]:
    """Return the lines by kind of randomness, then by size."""
    return [
        (randomness, size, line)
        for randomness in DASHES
        for size, line in rows[rows["randomness"] == randomness].groupby("num_train")
    ]


def _shifts(count: int, step: float) -> NDArray:
    """Return small displacements, symmetric about 0, that keep intervals from hiding each other."""
    return step * (np.arange(count) - (count - 1) / 2)


def _line(axis: Axes, rows: pd.DataFrame, x: str, shift: float, **look: Any) -> None:
    """Draw means as a line, with their intervals where they are known."""
    places = rows[x] + shift
    axis.plot(places, rows["mean_p"], marker="o", ms=3.5, lw=1.6, **look)
    axis.vlines(
        places, rows["mean_p_low"], rows["mean_p_high"], color=look["color"], lw=1.1, alpha=0.7
    )


def _expected(axis: Axes, rows: pd.DataFrame) -> None:
    """Draw the mean p-value that pure noise would give, and name it."""
    expected = float(rows["expected_mean_p"].mean())
    axis.axhline(expected, color=REFERENCE, ls=(0, (1, 1.5)), lw=1.2)
    axis.annotate(
        "expected under H0",
        (1, expected),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 3),
        textcoords="offset points",
        ha="right",
        fontsize=7,
        color=REFERENCE,
    )
    axis.set_ylim(0, max(0.6, 1.1 * np.nanmax(rows[["mean_p", "mean_p_high"]].to_numpy())))


def _share_legend(figure: Figure) -> None:
    """Add one legend for all panels, with each method once."""
    handles = {
        name: handle
        for axis in figure.axes
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(handles.values()), list(handles), loc="outside right center")


def _seeds(rows: pd.DataFrame) -> str:
    counts = sorted({int(n) for n in rows["n_seeds"]})
    return f"n = {'/'.join(map(str, counts))} seeds"


def _shades(count: int) -> list:
    """Return light to dark blues, small to large training sets."""
    return sns.light_palette(colour("loo"), count + 2)[2:]
