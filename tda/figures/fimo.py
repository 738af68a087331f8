"""Figures of final-model-only attribution."""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from tda.figures.style import REFERENCE, caption, panels, styled

LINES = {  # method: label, colour (Okabe and Ito), line style
    "grad_dot": ("Grad-Dot", "#CC79A7", ":"),
    "grad_cos": ("Grad-Cos", "#D55E00", ":"),
    "datainf": ("DataInf", "#F0E442", "-"),
    "trak": ("TRAK, M = 1", "0.6", "-"),
    "ekfac": ("EK-FAC, best λ", "#E69F00", "--"),
    "influence": ("exact GN, best λ", "#56B4E9", "--"),
    "corollary_2": ("Corollary 2, best λ", "#0072B2", "--"),
    "horizon": ("horizon filter", "#009E73", "-."),
    "horizon_linearised": ("linearised network", "black", "-"),
}


@styled
def agreement(table: pd.DataFrame, heading: str, metric: str) -> Figure:
    """Agreement with further training against its epochs, a line for each method.

    Args:
        table: columns method, epoch, value, se_test; one row for each method and epoch.
        heading: title of the figure.
        metric: what ``value`` is.
    """
    figure, (axis,) = panels(1, (6.4, 4.2), columns=1)
    for method, (label, colour, dashes) in LINES.items():
        rows = table[table["method"] == method].sort_values("epoch")
        if len(rows):
            axis.plot(rows["epoch"], rows["value"], dashes, color=colour, label=label)
            band = rows["value"] - rows["se_test"], rows["value"] + rows["se_test"]
            axis.fill_between(rows["epoch"], *band, color=colour, alpha=0.15, lw=0)
    axis.axhline(0, color=REFERENCE, lw=0.8)
    axis.set_xscale("log")
    axis.set_xlabel("epochs of further training")
    axis.set_ylabel(f"{metric} with further training")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(heading, x=0.01, ha="left", weight="bold")
    caption(
        figure,
        "Mean over test points and final models; bands: standard error over test points. "
        "Best λ: chosen at each epoch by looking.",
    )
    return figure


@styled
def damping_by_horizon(table: pd.DataFrame, heading: str) -> Figure:
    """Cosine over damping and horizon, with λ = 1/(ηT) and the best λ drawn in.

    Args:
        table: columns damping, horizon, value; a full grid.
        heading: title of the figure.
    """
    figure, (axis,) = panels(1, (5.6, 4.2), columns=1)
    grid = table.pivot_table(index="damping", columns="horizon", values="value")
    mesh = axis.pcolormesh(grid.columns, grid.index, grid, shading="nearest", cmap="viridis")
    figure.colorbar(mesh, ax=axis, label="cosine with further training")
    axis.plot(grid.columns, grid.idxmax(), "o", color="white", ms=4, label="best λ")
    axis.plot(grid.columns, 1 / grid.columns.to_numpy(), "--", color="white", label="λ = 1/(ηT)")
    axis.set(xscale="log", yscale="log", xlabel="horizon ηT", ylabel="damping λ")
    axis.set_ylim(grid.index.min(), grid.index.max())
    axis.legend(labelcolor="white")
    figure.suptitle(heading, x=0.01, ha="left", weight="bold")
    return figure


@styled
def noise(table: pd.DataFrame, heading: str) -> Figure:
    """Signal, seed noise and seeds needed, against epochs, for each way of leaving out.

    Args:
        table: columns how, epoch, signal, noise, seeds_needed.
        heading: title of the figure.
    """
    figure, axes = panels(2, (4.2, 3.4), columns=2)
    for (how, rows), colour in zip(table.groupby("how"), ("#D55E00", "#0072B2"), strict=False):
        axes[0].plot(rows["epoch"], rows["signal"], "-", color=colour, label=f"signal, {how}")
        axes[0].plot(rows["epoch"], rows["noise"], ":", color=colour, label=f"seed noise, {how}")
        axes[1].plot(rows["epoch"], rows["seeds_needed"], "-", color=colour, label=how)
    for axis in axes:
        axis.set(xscale="log", yscale="log", xlabel="epochs of further training")
        axis.legend()
    axes[0].set_ylabel("standard deviation of a score")
    axes[1].set_ylabel("seeds for a reliability of .9")
    figure.suptitle(heading, x=0.01, ha="left", weight="bold")
    return figure


@styled
def sorted_scores(gold: xr.DataArray, heading: str) -> Figure:
    """Gold scores of a few test points, sorted, one line for each.

    Args:
        gold: dims (left_out, test).
        heading: title of the figure.
    """
    figure, (axis,) = panels(1, (5.6, 3.6), columns=1)
    for column in gold.transpose("test", "left_out").values:
        axis.plot(np.sort(column)[::-1], color="#0072B2", alpha=0.4, lw=0.8)
    axis.axhline(0, color=REFERENCE, lw=0.8)
    axis.set_yscale("symlog", linthresh=float(np.abs(gold.values).mean()) / 10)
    axis.set(xlabel="left-out example, by rank", ylabel="gold score (positive = helpful)")
    figure.suptitle(heading, x=0.01, ha="left", weight="bold")
    return figure
