"""Figures of distributions over runs, before and after removals."""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tda.figures.style import REFERENCE, caption, panels, styled

BEFORE, PREDICTED, RETRAINED = "#555555", "#0072b2", "#d55e00"
SHOWN_RUNS = 40


@styled
def two_rankings(samples: xr.Dataset, table: pd.DataFrame) -> Figure:
    """One-dimensional regression: its runs, its examples by mean and W₂, and what removal does.

    Args:
        samples: measured, shift, retrained, curve, with the examples' x and y.
        table: columns train, x, y, difference, value, rank, source.
    """
    figure, (runs, ranking, sample) = panels(3, (3.5, 3.2), columns=3)
    predicted = table[table["source"] == "predicted"].set_index(["difference", "train"])["value"]
    mean, distance = predicted["mean"].abs(), predicted["wasserstein"]
    by_mean, by_distance = int(mean.idxmax()), int(distance.idxmax())
    _draw_runs(runs, samples, by_mean, by_distance)
    ranking.plot(mean, distance, "o", ms=4, color=REFERENCE)
    ranking.plot(mean[by_mean], distance[by_mean], "s", color=PREDICTED)
    ranking.plot(mean[by_distance], distance[by_distance], "D", color=RETRAINED)
    ranking.set_xlabel("|change of the mean|, predicted")
    ranking.set_ylabel("W₂, predicted")
    _draw_samples(sample, samples, by_distance)
    figure.suptitle(
        f"The mean and W₂ name different examples · {samples.sizes['seed']} runs", x=0.01,
        ha="left", weight="bold",
    )  # fmt: skip
    caption(
        figure,
        "Left: examples and runs; square: largest change of the mean at x = 0; diamond: largest "
        "W₂. Right: the output at x = 0 before removal of the diamond, predicted and retrained.",
    )
    return figure


def _draw_runs(axis: Axes, samples: xr.Dataset, by_mean: int, by_distance: int) -> None:
    curves = samples["curve"].isel(checkpoint=0).values[:SHOWN_RUNS]
    axis.plot(samples["curve_x"], curves.T, color=BEFORE, lw=0.4, alpha=0.4)
    x, y = samples["x"].values, samples["y"].values
    axis.plot(x, y, "o", ms=4, color="black")
    axis.plot(x[by_mean], y[by_mean], "s", color=PREDICTED)
    axis.plot(x[by_distance], y[by_distance], "D", color=RETRAINED)
    axis.set_xlabel("x")
    axis.set_ylabel("y")


def _draw_samples(axis: Axes, samples: xr.Dataset, example: int) -> None:
    at = {"checkpoint": 0, "test": 0}
    before = samples["measured"].isel(at).values
    shift = samples["shift"].isel(at).sel(train=example).values
    without = samples["retrained"].isel(at).sel(train=example).values
    for values, colour, label in (
        (before, BEFORE, "before"),
        (before + shift, PREDICTED, "predicted"),
        (without, RETRAINED, "retrained"),
    ):
        axis.plot(np.sort(values), (np.arange(len(values)) + 0.5) / len(values), color=colour,
                  label=label)  # fmt: skip
    axis.set_xlabel("output at x = 0")
    axis.set_ylabel("share of runs below")
    axis.legend()
