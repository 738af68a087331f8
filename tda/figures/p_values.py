"""Figures 4 and 6 of the paper: mean p-values against training set size and checkpoints."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tda.figures.style import (
    RANDOMNESS,
    REFERENCE,
    colour,
    is_variant,
    label,
    ordered,
    panels,
    styled,
)

DASHES = dict(zip(RANDOMNESS.values(), ("-", "--", "-.", ":"), strict=True))


@styled
def p_value_by_size(table: pd.DataFrame) -> Figure:
    """Mean p-value against training set size, one line a method, one panel a model and task.

    Args:
        table: columns panel, method, num_train, mean_p, expected_p, n_seeds, and low, high where
            an interval of the mean is known (NaN where not).
    """
    names = list(table["panel"].unique())
    figure, axes = panels(len(names), (3.7, 3.0))
    for axis, name in zip(axes, names, strict=True):
        rows = table[table["panel"] == name]
        sizes = sorted(rows["num_train"].unique())
        for method in ordered(list(rows["method"])):
            _line(
                axis,
                rows[rows["method"] == method].sort_values("num_train"),
                "num_train",
                label=label(method),
                color=colour(method),
                ls="--" if is_variant(method) else "-",
            )
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.margins(x=0.08)
        axis.set_title(f"{name} · {_seeds(rows)}")
        _expected(axis, rows)
    _finish_lines(figure, axes, "training set size", "Mean p-value against training set size")
    return figure


@styled
def p_value_by_checkpoints(table: pd.DataFrame) -> Figure:
    """Mean LOO p-value against the number of checkpoints, one line a size and randomness.

    Args:
        table: columns panel, num_train, randomness (as in :data:`style.RANDOMNESS`), checkpoints,
            mean_p, expected_p, n_seeds, low, high (NaN where not known).
    """
    names = list(table["panel"].unique())
    figure, axes = panels(len(names), (3.9, 4.0))
    for axis, name in zip(axes, names, strict=True):
        rows = table[table["panel"] == name]
        sizes = sorted(rows["num_train"].unique())
        shades = dict(zip(sizes, _shades(len(sizes)), strict=True))
        for randomness, size, line in _in_order(rows):
            _line(
                axis,
                line.sort_values("checkpoints"),
                "checkpoints",
                label=f"{size} · {randomness}",
                color=shades[size],
                ls=DASHES[randomness],
            )
        axis.set_xticks(sorted(rows["checkpoints"].unique()))
        axis.set_title(f"{name} · {_seeds(rows)}")
        _expected(axis, rows)
        axis.set_xlabel("checkpoints averaged in each run")
        axis.legend(
            title="training set size · randomness",
            title_fontsize=8,
            handlelength=3.5,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.2),
            ncols=rows["randomness"].nunique(),
        )
    figure.supylabel("mean p-value of LOO", fontsize=9)
    figure.suptitle(
        "Mean LOO p-value against the number of checkpoints", x=0.01, ha="left", weight="bold"
    )
    return figure


def _in_order(rows: pd.DataFrame) -> Iterator[tuple[str, int, pd.DataFrame]]:
    """Lines by kind of randomness, then by size."""
    for randomness in DASHES:
        for size, line in rows[rows["randomness"] == randomness].groupby("num_train"):
            yield randomness, size, line


def _line(axis: Axes, rows: pd.DataFrame, x: str, **look: str) -> None:
    axis.plot(rows[x], rows["mean_p"], marker="o", ms=3.5, lw=1.6, **look)
    known = rows.dropna(subset=["low", "high"])
    axis.fill_between(known[x], known["low"], known["high"], color=look["color"], alpha=0.15, lw=0)


def _expected(axis: Axes, rows: pd.DataFrame) -> None:
    """The mean p-value that pure noise would give, and where it stands on the axis."""
    expected = float(rows["expected_p"].mean())
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
    axis.set_ylim(0, max(0.6, 1.1 * np.nanmax(rows[["mean_p", "high"]].to_numpy())))


def _finish_lines(figure: Figure, axes: list[Axes], x: str, heading: str) -> None:
    handles = {
        name: handle
        for axis in axes
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside right center")
    figure.supxlabel(x, fontsize=9)
    figure.supylabel("mean p-value over all pairs", fontsize=9)
    figure.suptitle(heading, x=0.01, ha="left", weight="bold")


def _seeds(rows: pd.DataFrame) -> str:
    counts = sorted({int(n) for n in rows["n_seeds"]})
    return f"n = {'/'.join(map(str, counts))} seeds"


def _shades(count: int) -> list:
    """Light to dark blues, small to large training sets."""
    return sns.light_palette(colour("loo"), count + 2)[2:]
