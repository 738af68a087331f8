"""Draw figures as SVG that takes its colours from the page."""

import io
import re

import matplotlib as mpl
import numpy as np
from markupsafe import escape
from matplotlib.figure import Figure

from bayestda.page.model import Drawing
from bayestda.plots import style

BINS = np.linspace(0, 1, 21).tolist()
THEMED = {  # what figures are drawn with -> what it is on a light and on a dark page
    "#262626": "var(--ink)",
    "#000000": "var(--ink)",
    "#ffffff": "var(--card)",
    "#555555": "var(--muted)",
    "#595959": "var(--muted)",
    "#737373": "var(--muted)",
    "#ebebeb": "var(--line)",
    "#e0e0e0": "var(--line)",
    "#cccccc": "var(--line)",
}


def themed(colour: str) -> str:
    """Return a colour of a figure as the page writes it: greys and black follow light and dark."""
    return THEMED.get(mpl.colors.to_hex(colour), mpl.colors.to_hex(colour))


def inline_svg(figure: Figure, description: str) -> str:
    """Return a figure as an SVG element for an HTML page, without its title and caption.

    Args:
        figure: The figure, which is cleared.
        description: Text for those who do not see it.
    """
    figure.suptitle("")
    figure.supxlabel("")
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": description}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    figure.clear()
    return _with_head(_shortened(buffer.getvalue()), description)


def _shortened(svg: str) -> str:
    """Return the SVG element without comments and unused names, in the page's colours."""
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg[svg.index("<svg ") :]
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    return re.sub("|".join(THEMED), lambda found: THEMED[found[0]], svg)


def _with_head(svg: str, description: str) -> str:
    """Return the SVG element with a description, as wide as its place at most."""
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


def p_values(name: str, p: np.ndarray) -> Drawing:
    """Draw a histogram of a method's p-values over all pairs.

    Args:
        name: Name of the method as :func:`bayestda.plots.style.label` takes it.
        p: P-values of any shape; those that are not numbers are left out.
    """
    values = p[np.isfinite(p)]
    title = style.label(name)
    share = float((values < 0.05).mean()) if values.size else float("nan")
    mean = float(values.mean()) if values.size else float("nan")
    caption = f"{len(values):,} pairs: mean p {style.short(mean)}, {share:.0%} below .05"
    description = f"Histogram of p-values of {title}: {caption}"
    svg = inline_svg(_histogram(values, style.colour(name)), description)
    return Drawing(title, svg, caption)
