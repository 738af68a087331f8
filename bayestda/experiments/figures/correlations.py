"""Figures 5 and 8-17 of the paper: how far the methods agree, as annotated heat maps."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bayestda.experiments.figures.names import ordered
from bayestda.experiments.grid import PAPER_GRID, VIT_GRID
from bayestda.plots.style import caption, label, panels, short, styled

KINDS = ("pearson", "spearman")
STATISTICS = {"mean": "means", "std": "standard deviations", "p": "p-values"}
FIGURE_NUMBERS = {  # experiments 1-10 of the paper are its figures 8-17
    experiment.name: number
    for number, experiment in enumerate((*PAPER_GRID[:8], *VIT_GRID), start=8)
}
MAIN_TEXT = "cnn2_mnist3_50pc"  # experiment 3 is shown in the main text too, as figure 5
SIGNS = (
    "Signs are the paper's: an example that helps has a positive LOO, Grad-Dot and Grad-Cos but a "
    "negative ATS and IF, so agreement about which examples help is a negative correlation of "
    "means between the two groups. Small print: 95 % interval over seeds (needs three)."
)


def figure_names(experiment_name: str) -> list[str]:
    """Return the names of an experiment's figures: those of the paper, else ``correlations``."""
    numbers = [5] if experiment_name == MAIN_TEXT else []
    if experiment_name in FIGURE_NUMBERS:
        numbers.append(FIGURE_NUMBERS[experiment_name])
    return [f"figure_{number:02d}_correlations" for number in numbers] or ["correlations"]


@styled
def correlation_maps(table: pd.DataFrame, heading: str) -> Figure:
    """Draw heat maps of correlations between methods: Pearson, Spearman x mean, std, p-value.

    Args:
        table: Columns method_a, method_b, statistic, kind, value, low, high, n_seeds; one row for
            each unordered pair of methods, of one scope.
        heading: Title of the figure, which names the experiment.
    """
    methods = ordered([*table["method_a"], *table["method_b"]])
    side = 1.5 + 0.66 * len(methods)
    figure, axes = panels(len(KINDS) * len(STATISTICS), (side, side * 0.92))
    cases = [(kind, statistic) for kind in KINDS for statistic in STATISTICS]
    for axis, (kind, statistic) in zip(axes, cases, strict=True):
        rows = table[(table["kind"] == kind) & (table["statistic"] == statistic)]
        _heat_map(axis, rows, methods)
        axis.set_title(f"{kind.capitalize()} · {STATISTICS[statistic]}")
    seeds = "/".join(str(n) for n in sorted(table["n_seeds"].unique()))
    figure.suptitle(f"{heading} · n = {seeds} seeds", x=0.01, ha="left", weight="bold")
    caption(figure, SIGNS)
    bar = figure.colorbar(axes[0].collections[0], ax=axes, shrink=0.5, aspect=30, pad=0.01)
    bar.outline.set_visible(False)
    bar.set_label("correlation")
    return figure


def _heat_map(axis: Axes, rows: pd.DataFrame, methods: list[str]) -> None:
    """Draw one map of methods x methods; value in large, interval in small print."""
    values_KK = _matrix(rows, methods, "value")
    np.fill_diagonal(values_KK, 1.0)
    annotations_KK = np.vectorize(short)(values_KK)
    names = [label(method) for method in methods]
    sns.heatmap(
        values_KK,
        ax=axis,
        vmin=-1,
        vmax=1,
        cmap="vlag",
        annot=annotations_KK,
        fmt="",
        annot_kws={"fontsize": 9},
        cbar=False,
        square=True,
        linewidths=1.2,
        xticklabels=names,
        yticklabels=names,
    )
    axis.tick_params(length=0)
    axis.set_xticklabels(names, rotation=35, ha="right", rotation_mode="anchor")
    axis.set_yticklabels(names, rotation=0)
    for row, column in np.argwhere(np.isnan(values_KK)):
        axis.text(column + 0.5, row + 0.5, "n/a", ha="center", va="center", color="0.5")
    _write_intervals(axis, _matrix(rows, methods, "low"), _matrix(rows, methods, "high"))


def _write_intervals(axis: Axes, low_KK: NDArray, high_KK: NDArray) -> None:
    """Write below each value its interval, in the colour that is legible on the cell."""
    for text in list(axis.texts):
        column, row = (int(position) for position in text.get_position())
        low, high = low_KK[row, column], high_KK[row, column]
        if np.isfinite([low, high]).all():
            text.set_y(row + 0.4)
            axis.text(
                column + 0.5,
                row + 0.74,
                f"{short(low)} … {short(high)}",
                fontsize=5.5,
                ha="center",
                va="center",
                color=text.get_color(),
            )


def _matrix(rows: pd.DataFrame, methods: list[str], column: str) -> NDArray:
    """Return the symmetric matrix of a column; missing pairs and the diagonal are NaN."""
    matrix_KK = np.full((len(methods), len(methods)), np.nan)
    for row in rows.itertuples():
        a, b = methods.index(row.method_a), methods.index(row.method_b)
        matrix_KK[a, b] = matrix_KK[b, a] = getattr(row, column)
    return matrix_KK
