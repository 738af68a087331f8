"""Figures of the page, as SVG that takes its colours from the page."""

import io
import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from markupsafe import escape
from matplotlib.figure import Figure

from bayestda.experiments.figures.damping import damping_curve
from bayestda.experiments.figures.estimates import estimates
from bayestda.experiments.figures.from_tables import reliability_rows, variance_rows
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


def reliability(table: pd.DataFrame) -> Drawing:
    """Agreement between seeds, and with LOO."""
    caption = (
        "Left: how well the seeds agree with each other, and the ceiling that this sets to any "
        "correlation. Right: correlations with LOO; positive = the same examples are found "
        "helpful. Pearson over all pairs; lines: 95 % jackknife intervals over seeds."
    )
    title = "Reliability, and agreement with LOO"
    figure = estimates(reliability_rows(table), "", "correlation", (0, 1), "")
    return Drawing(title, inline_svg(figure, f"{title}. {caption}"), caption, wide=True)


def variance(experiment: Experiment, table: pd.DataFrame) -> Drawing:
    """Components of the variance of one score."""
    caption = (
        "Dots: share of the variance of one score (one run, one checkpoint), summed over all "
        "pairs. Lines: 95 % jackknife intervals. Estimates are unbiased and may be negative."
    )
    rows = variance_rows(experiment.randomness, table)
    title = f"Components of variance, {table['n_seeds'].max()} runs"
    figure = estimates(rows.assign(panel=""), "", "share of variance", (0, 1), "")
    return Drawing(title, inline_svg(figure, f"{title}. {caption}"), caption, wide=True)


def damping(table: pd.DataFrame) -> Drawing:
    """Influence functions against LOO, by damping."""
    title, caption = (
        "Influence function and LOO, by damping",
        ("Pearson correlation; bands: 95 % jackknife intervals over seeds."),
    )
    return Drawing(title, inline_svg(damping_curve(table, ""), title), caption, wide=True)
