"""One look for all figures."""

import math
import textwrap
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayestda.files import atomic
from bayestda.scores.estimators import colour_of, name_of

Inputs = ParamSpec("Inputs")
DPI = 150
REFERENCE = "0.45"  # grey of lines that are drawn for comparison and not data


THEME = {
    **sns.axes_style("ticks"),
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.unicode_minus": True,
}


def styled(draw: Callable[Inputs, Figure]) -> Callable[Inputs, Figure]:
    """Draw in the project's theme and leave matplotlib's global settings as they were."""

    @wraps(draw)
    def themed(*args: Inputs.args, **kwargs: Inputs.kwargs) -> Figure:
        with mpl.rc_context(THEME):
            return draw(*args, **kwargs)

    return themed


def colour(method: str) -> str:
    """Return a method's colour: a variant has that of its method, a stranger's method is grey."""
    return colour_of(method)


def label(method: str) -> str:
    """Return a method's name as the paper writes it, for example ``LOO (published)``."""
    return name_of(method)


def panels(count: int, size: tuple[float, float], columns: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` axes in rows of at most ``columns``; size in inches per axes."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    axes_RC = figure.subplots(rows, columns, squeeze=False)
    axes = [axis for row in axes_RC for axis in row]
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]


def caption(figure: Figure, text: str) -> None:
    """Write how to read a figure below it, in lines as long as it is wide."""
    letters = int(figure.get_figwidth() * 15)
    lines = [textwrap.fill(paragraph, letters) for paragraph in text.split("\n")]
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=8, color="0.35")


def number(text: str) -> str:
    """A formatted number with a true minus sign."""
    return text.replace("-", "\N{MINUS SIGN}")


def short(value: float, digits: int = 2) -> str:
    """A number of fixed digits without a negative zero; ``n/a`` when it is not defined."""
    return number(f"{round(value, digits) + 0.0:.{digits}f}") if np.isfinite(value) else "n/a"


def probability(name: str, value: float) -> str:
    """A p- or q-value: ``p = 4e-06``, ``p = .042``, ``p > .99``, ``p n/a`` if not defined."""
    if not np.isfinite(value):
        return f"{name} n/a"
    if value > 0.99:
        return f"{name} > .99"
    text = number(f"{value:.0e}") if value < 0.001 else f"{value:.3f}".removeprefix("0")
    return f"{name} = {text}"


def measurement(mean: float, error: float) -> str:
    """Mean ± standard error to the error's digits: ``+0.21 ± 0.03``, ``(+1.2 ± 0.3)e-5``."""
    if not np.isfinite([mean, error]).all():
        return "n/a"
    largest = max(abs(mean), error)
    power = math.floor(math.log10(largest)) if largest else 0
    scale = power if not -2 <= power <= 2 else 0
    mean, error = mean / 10.0**scale, error / 10.0**scale
    digits = min(max(1 - math.floor(math.log10(error)), 0), 3) if error else 2
    text = f"{round(mean, digits) + 0.0:+.{digits}f} ± {error:.{digits}f}"
    return number(f"({text})e{scale}" if scale else text)


def save(path: Path, figure: Figure) -> Path:
    """Write a figure whole as PNG at 150 dpi and free its memory; returns ``path``.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    atomic.write_whole(path, lambda temporary: figure.savefig(temporary, format="png", dpi=DPI))
    figure.clear()
    return path
