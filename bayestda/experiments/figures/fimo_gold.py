"""Figures of the gold standard of final-model-only attribution."""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from bayestda.experiments.figures.fimo import LINES, explained, line
from bayestda.plots.style import REFERENCE, panels, styled


@styled
def noise(table: pd.DataFrame, heading: str) -> Figure:
    """Draw signal, seed noise and seeds needed, against epochs, for each way of leaving out.

    Args:
        table: Columns how, epoch, signal, noise, seeds_needed.
        heading: Title of the figure.
    """
    figure, axes = panels(2, (4.2, 3.4), columns=2)
    for (how, rows), colour in zip(table.groupby("how"), ("#D55E00", "#0072B2"), strict=False):
        signal = rows["signal"].where(rows["signal"] > 0)  # else noise hides it
        axes[0].plot(rows["epoch"], signal, "-", color=colour, label=f"signal, {how}")
        axes[0].plot(rows["epoch"], rows["noise"], ":", color=colour, label=f"seed noise, {how}")
        axes[1].plot(rows["epoch"], rows["seeds_needed"], "-", color=colour, label=how)
    for axis in axes:
        axis.set(xscale="log", yscale="log", xlabel="epochs of further training")
        axis.legend()
    axes[0].set_ylabel("root mean square of a score")
    axes[1].set_ylabel("seeds for a reliability of .9")
    figure.suptitle(heading, x=0.01, ha="left", weight="bold")
    return figure


@styled
def sorted_scores(gold: xr.DataArray, heading: str) -> Figure:
    """Draw the sorted gold scores of a few test points, one line for each.

    Args:
        gold: Gold scores, dims (left_out, test).
        heading: Title of the figure.
    """
    figure, (axis,) = panels(1, (5.6, 3.6), columns=1)
    for column in gold.transpose("test", "left_out").values:
        axis.plot(np.sort(column)[::-1], color="#0072B2", alpha=0.4, lw=0.8)
    axis.axhline(0, color=REFERENCE, lw=0.8)
    axis.set_yscale("symlog", linthresh=float(np.abs(gold.values).mean()) / 10)
    axis.set(xlabel="left-out example, by rank", ylabel="gold score (positive = helpful)")
    figure.suptitle(heading, x=0.01, ha="left", weight="bold")
    return figure


@styled
def by_seeds(table: pd.DataFrame, heading: str) -> Figure:
    """Draw the largest agreement over epochs against the number of orders that gold scores average.

    Args:
        table: Columns method, size, value, low, high; one row for each method and size.
        heading: Title of the figure.
    """
    figure, (axis,) = panels(1, (6.4, 4.2), columns=1)
    for method, (label, colour, dashes) in LINES.items():
        rows = table[table["method"] == method].sort_values("size")
        if len(rows):
            axis.plot(rows["size"], rows["value"], dashes, color=colour, label=label, marker=".")
            axis.fill_between(
                rows["size"], rows["low"], rows["high"], color=colour, alpha=0.1, lw=0
            )
    sizes = sorted(table["size"].unique())
    axis.set_xscale("log")
    axis.set_xticks(sizes, [f"{size:g}" for size in sizes], minor=False)
    axis.minorticks_off()
    axis.set_xlabel("orders of the data that gold scores average")
    axis.set_ylabel("largest cosine over epochs")
    return explained(
        figure, heading,
        "Means over disjoint groups of orders, test points and final models; bands: 95 % jackknife "
        "intervals over those of the three that have at least three levels.",
    )  # fmt: skip


@styled
def scratch(table: pd.DataFrame, heading: str) -> Figure:
    """Draw agreement with training again from scratch, against epochs of further training.

    Args:
        table: Columns method, epoch (missing for methods without a horizon), value, se_test.
        heading: Title of the figure.
    """
    figure, (axis,) = panels(1, (6.4, 4.2), columns=1)
    lines = {"further training": ("further training", "black", "-"), **LINES}
    lines["horizon_linearised"] = ("linearised network", "0.5", "-")
    for method, (label, colour, dashes) in lines.items():
        rows = table[table["method"] == method].sort_values("epoch")
        if not len(rows):
            continue
        if rows["epoch"].isna().all():
            axis.axhline(float(rows["value"].iloc[0]), ls=dashes, color=colour, label=label, lw=1.2)
            continue
        line(axis, rows, label, colour, dashes)
    axis.set_xscale("log")
    axis.set_xlabel("epochs of further training")
    axis.set_ylabel("cosine with training from scratch")
    return explained(
        figure, heading,
        "Mean over test points; bands: standard error over them. Horizontal lines: methods that "
        "know no horizon; best λ: chosen by looking.",
    )  # fmt: skip
