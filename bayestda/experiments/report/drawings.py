"""Figures of the page, as SVG that takes its colours from the page."""

import io
import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from markupsafe import escape
from matplotlib.figure import Figure

from bayestda.experiments.figures.catalogue import FIGURES
from bayestda.experiments.figures.damping import damping_curve
from bayestda.experiments.figures.histograms import BINS
from bayestda.experiments.grid import Experiment
from bayestda.experiments.report.model import Drawing
from bayestda.plots import style

THEMED = {  # what figures are drawn with -> what it is on a light and on a dark page
    "#262626": "var(--ink)",
    "#000000": "var(--ink)",
    "#ffffff": "var(--card)",
    "#595959": "var(--muted)",
    "#737373": "var(--muted)",
    "#ebebeb": "var(--line)",
    "#e0e0e0": "var(--line)",
    "#cccccc": "var(--line)",
}


def inline_svg(figure: Figure, description: str) -> str:
    """A figure as an SVG element for an HTML page, without title and caption.

    Args:
        figure: is cleared.
        description: for those who do not see it.
    """
    figure.suptitle("")
    figure.supxlabel("")
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": description}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    figure.clear()
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    svg = svg[svg.index("<svg ") :]
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub("|".join(THEMED), lambda found: THEMED[found[0]], svg)
    ((width, height),) = re.findall(r'viewBox="0 0 (\S+) (\S+)"', svg)
    head = (
        f'<svg viewBox="0 0 {width} {height}" style="max-width: {1.45 * float(width):.0f}px" '
        f'role="img" aria-label="{escape(description)}">'
    )
    return re.sub(r"\s*\n\s*", "\n", re.sub(r"<svg .*?>", head, svg, count=1, flags=re.DOTALL))


@style.styled
def _histogram(p: np.ndarray, colour: str) -> Figure:
    figure, (axis,) = style.panels(1, (3.1, 2.0), columns=1)
    axis.hist(p, BINS, color=colour, edgecolor="white", lw=0.6)
    axis.axhline(len(p) / (len(BINS) - 1), color=style.REFERENCE, ls="--", lw=1)
    axis.set(xlim=(0, 1), xlabel="p-value", ylabel="pairs")
    axis.yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    return figure


def p_values(name: str, p: xr.DataArray) -> Drawing:
    """Histogram of a method's p-values over all pairs."""
    values = p.values[np.isfinite(p.values)]
    title = style.label(name)
    share = float((values < 0.05).mean()) if values.size else float("nan")
    caption = (
        f"{len(values):,} pairs: mean p {style.short(float(values.mean()))}, {share:.0%} below .05"
    )
    svg = inline_svg(
        _histogram(values, style.colour(name)), f"Histogram of p-values of {title}: {caption}"
    )
    return Drawing(title, svg, caption)


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
    """Influence functions against LOO, by damping."""
    title, caption = (
        "Influence function and LOO, by damping",
        ("Pearson correlation; bands: 95 % jackknife intervals over seeds."),
    )
    return Drawing(title, inline_svg(damping_curve(table, ""), title), caption, wide=True)
