"""Figures of final-model-only attribution."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayestda.plots.style import REFERENCE, caption, panels, styled

LINES = {  # method: label, colour (Okabe and Ito), line style
    "grad_dot": ("Grad-Dot", "#CC79A7", ":"),
    "grad_cos": ("Grad-Cos", "#D55E00", ":"),
    "datainf": ("DataInf", "#F0E442", "-"),
    "trak": ("TRAK, M = 1", "0.6", "-"),
    "ekfac": ("EK-FAC, best λ", "#E69F00", "--"),
    "influence": ("exact GN, best λ", "#56B4E9", "--"),
    "corollary_2": ("Corollary 2, best λ", "#0072B2", "--"),
    "horizon_ekfac": ("horizon filter, EK-FAC", "#009E73", ":"),
    "horizon": ("horizon filter", "#009E73", "-."),
    "horizon_generalised": ("horizon, generalised", "#009E73", "-"),
    "horizon_linearised": ("linearised network", "black", "-"),
}

OTHERS = {
    "gold": "further training",
    "cg": "CG (GN), best λ",
    "lissa": "LiSSA (GN), best λ",
    "lissa_h": "LiSSA-H, best λ",
    "proposition_1": "Proposition 1, best λ",
    "equation_16": "equation 16, best λ",
}


def line(axis: Axes, rows: pd.DataFrame, label: str, colour: str, dashes: str) -> None:
    """Draw values by epoch, with their standard error over test points as a band."""
    axis.plot(rows["epoch"], rows["value"], dashes, color=colour, label=label)
    band = rows["value"] - rows["se_test"], rows["value"] + rows["se_test"]
    axis.fill_between(rows["epoch"], *band, color=colour, alpha=0.15, lw=0)


def explained(figure: Figure, heading: str, words: str) -> Figure:
    """Add a legend beside the only panel, a title, and a caption."""
    figure.axes[0].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(heading, x=0.01, ha="left", weight="bold")
    caption(figure, words)
    return figure


@styled
def agreement(table: pd.DataFrame, heading: str, metric: str) -> Figure:
    """Draw agreement with further training against its epochs, a line for each method.

    Args:
        table: Columns method, epoch, value, se_test; one row for each method and epoch.
        heading: Title of the figure.
        metric: Name of what ``value`` is.
    """
    figure, (axis,) = panels(1, (6.4, 4.2), columns=1)
    for method, (label, colour, dashes) in LINES.items():
        rows = table[table["method"] == method].sort_values("epoch")
        if len(rows):
            line(axis, rows, label, colour, dashes)
    axis.axhline(0, color=REFERENCE, lw=0.8)
    axis.set_xscale("log")
    axis.set_xlabel("epochs of further training")
    axis.set_ylabel(f"{metric} with further training")
    return explained(
        figure, heading,
        "Mean over test points and final models; bands: standard error over test points. "
        "Best λ: chosen at each epoch by looking.",
    )  # fmt: skip


@styled
def damping_by_horizon(table: pd.DataFrame, heading: str) -> Figure:
    """Draw the cosine over damping and horizon, with λ = 1/(ηT) and the best λ drawn in.

    Args:
        table: Columns damping, horizon, value; a full grid.
        heading: Title of the figure.
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
def detection(table: pd.DataFrame, heading: str) -> Figure:
    """Draw the area under the curve of each method, with its interval.

    Args:
        table: Columns method, value, low, high; one row for each method.
        heading: Title of the figure.
    """
    rows = table.sort_values("value")
    figure, (axis,) = panels(1, (5.6, 0.6 + 0.24 * len(rows)), columns=1)
    names = OTHERS | {name: label for name, (label, _, _) in LINES.items()}
    for place, row in enumerate(rows.itertuples()):
        colour = "black" if row.method == "gold" else "#0072B2"
        axis.plot([row.low, row.high], [place, place], color=colour, lw=1.2)
        axis.plot(row.value, place, "o", color=colour, ms=4)
    axis.set_yticks(range(len(rows)), [names.get(name, name) for name in rows["method"]])
    axis.axvline(0.5, color=REFERENCE, lw=0.8, ls="--")
    axis.set_xlabel("area under the curve: flipped labels found by the harm they do")
    figure.suptitle(heading, x=0.01, ha="left", weight="bold")
    return figure


@styled
def ranking(table: pd.DataFrame, heading: str) -> Figure:
    """Draw what each filter of the horizon gains on the best other method, against epochs.

    Args:
        table: Columns method, epoch, difference, low, high (missing with few final models).
        heading: Title of the figure.
    """
    figure, (axis,) = panels(1, (6.4, 3.6), columns=1)
    for method, (label, colour, dashes) in LINES.items():
        rows = table[table["method"] == method].sort_values("epoch")
        if len(rows):
            axis.plot(rows["epoch"], rows["difference"], dashes, color=colour, label=label)
            axis.fill_between(
                rows["epoch"], rows["low"], rows["high"], color=colour, alpha=0.12, lw=0
            )
    axis.axhline(0, color=REFERENCE, lw=0.8)
    axis.set_xscale("log")
    axis.set_xlabel("epochs of further training")
    axis.set_ylabel("gain in cosine")
    return explained(
        figure, heading,
        "Above 0: better than all other methods at all of their dampings. Bands: 95 % jackknife "
        "intervals over test points and final models.",
    )  # fmt: skip
