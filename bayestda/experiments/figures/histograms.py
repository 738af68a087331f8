"""Figures 3 and 7 of the paper: histograms of p-values over all train-test pairs."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bayestda.plots.style import REFERENCE, colour, panels, styled

BINS = np.linspace(0, 1, 21).tolist()


@styled
def p_value_histograms(pairs: Mapping[str, xr.Dataset], heading: str) -> Figure:
    """Draw histograms of p-values over all train-test pairs, one panel for each experiment.

    Args:
        pairs: Statistics by panel title: ``p``, ``published_p`` (train, test) and ``n_seeds``.
            Where all seeds agree exactly p is 0, or 1 if they are all 0.
        heading: Title of the figure.
    """
    figure, axes = panels(len(pairs), (3.5, 2.7))
    for axis, (name, dataset) in zip(axes, pairs.items(), strict=True):
        _histogram(axis, dataset)
        axis.set_title(name.replace(" · ", "\n", 1))
    _same_height_in_units_of_uniform(axes, [_finite(dataset["p"]) for dataset in pairs.values()])
    for axis in axes:
        axis.set_xlabel("p-value of LOO")
    figure.supylabel("train-test pairs", fontsize=9)
    figure.suptitle(heading, x=0.01, ha="left", weight="bold")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower left", ncols=min(3, len(pairs)))
    return figure


def _histogram(axis: Axes, dataset: xr.Dataset) -> None:
    values, published = _finite(dataset["p"]), _finite(dataset["published_p"])
    axis.hist(values, BINS, color=colour("loo"), edgecolor="white", lw=0.5, label="Student t")
    counts = np.histogram(published, BINS)[0]
    axis.stairs(counts, BINS, color="black", lw=1.2, label="published statistic")
    axis.axhline(
        len(values) / (len(BINS) - 1),
        color=REFERENCE,
        ls="--",
        lw=1,
        label="uniform: H0, Student t",
    )
    axis.set_xlim(0, 1)
    share = np.mean(values < 0.05) if len(values) else np.nan
    axis.text(
        0.5,
        0.97,
        f"n = {len(values):,} pairs, {int(dataset['n_seeds'])} seeds\n"
        f"mean p {np.mean(values) if len(values) else np.nan:.3f}, {share:.1%} below .05",
        transform=axis.transAxes,
        ha="center",
        va="top",
        fontsize=8,
        linespacing=1.3,
    )
    axis.yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")


def _finite(array: xr.DataArray) -> NDArray:
    values = array.values.ravel()
    return values[np.isfinite(values)]


def _same_height_in_units_of_uniform(axes: list[Axes], samples: list[NDArray]) -> None:
    """Make panels of unequal n comparable: the uniform line is at the same height in all."""
    tallest = max(
        axis.dataLim.y1 * (len(BINS) - 1) / max(len(p), 1)
        for axis, p in zip(axes, samples, strict=True)
    )
    for axis, values in zip(axes, samples, strict=True):
        axis.set_ylim(0, 1.28 * tallest * max(len(values), 1) / (len(BINS) - 1))
