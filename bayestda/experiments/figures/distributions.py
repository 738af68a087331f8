"""Figures of distributions over runs, before and after removals."""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayestda.plots.style import REFERENCE, caption, panels, styled

BEFORE, PREDICTED, RETRAINED = "#555555", "#0072b2", "#d55e00"
SHOWN_RUNS = 40


@styled
def two_rankings(samples: xr.Dataset, table: pd.DataFrame) -> Figure:
    """Draw the one-dimensional regression: its runs, its examples by mean and W₂, and a removal.

    Args:
        samples: Variables measured, shift, retrained, curve, with the examples' x and y.
        table: Columns train, x, y, difference, value, rank, source.
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


@styled
def convergence(table: pd.DataFrame) -> Figure:
    """Draw the agreement of methods with unrolled shifts over epochs, a panel per method.

    Args:
        table: Columns rate, method, epoch, quantity, mean, low, high, n_seeds.
    """
    methods = list(dict.fromkeys(table["method"]))
    figure, axes = panels(len(methods), (3.3, 3.0), columns=3)
    rows = table[table["quantity"] == "correlation"]
    for axis, method in zip(axes, methods, strict=True):
        for rate, own in rows[rows["method"] == method].groupby("rate", sort=False):
            (line,) = axis.plot(own["epoch"], own["mean"], "o-", ms=3, label=f"η = {rate:g}")
            colour = line.get_color()
            axis.fill_between(own["epoch"], own["low"], own["high"], color=colour, alpha=0.15, lw=0)
        axis.set_xscale("log", base=2)
        axis.set_title(method)
        axis.set_xlabel("epoch")
        axis.axhline(1, color=REFERENCE, lw=0.8)
    axes[0].set_ylabel("Pearson with unrolled shifts")
    axes[0].legend()
    heading = f"Unrolled differentiation and estimators · {table['n_seeds'].max()} runs"
    figure.suptitle(heading, x=0.01, ha="left", weight="bold")
    caption(figure, "By run, over 40 examples and 10 queries; bands: 95 % over runs.")
    return figure


@styled
def removals(samples: xr.Dataset, errors: pd.DataFrame, lds: pd.DataFrame) -> Figure:
    """Draw groups removed from a regression: one as distributions, all as distances and ranks.

    Args:
        samples: Variables measured, shift (with the dim method), retrained.
        errors: Table of :func:`tda.validate`, with the columns method and random_numbers.
        lds: Its second table, with n_seeds of the prediction.
    """
    figure, (sample, distance, ranks) = panels(3, (3.6, 3.2), columns=3)
    unrolled = errors[(errors["method"] == "unrolled") & (errors["random_numbers"] == "common")]
    chosen = unrolled.loc[unrolled["w2_before"].idxmax()]
    at = {"group": int(chosen["group"]), "test": chosen["test"], "checkpoint": chosen["checkpoint"]}
    before = samples["measured"].sel({k: v for k, v in at.items() if k != "group"}).values
    for values, colour, label in (
        (before, BEFORE, "before"),
        (
            before + samples["shift"].sel({"method": "unrolled"}).sel(at).values,
            PREDICTED,
            "predicted",
        ),
        (samples["retrained"].sel(at).values, RETRAINED, "retrained"),
    ):
        share = (np.arange(len(values)) + 0.5) / len(values)
        sample.plot(np.sort(values), share, color=colour, label=label)
    sample.set_xlabel("predicted strength [standard deviations]")
    sample.set_ylabel("share of runs below")
    sample.legend()
    ordered = unrolled.sort_values("w2_before")
    place = np.arange(len(ordered))
    distance.plot(place, ordered["w2_before"], ".", ms=3, color=BEFORE, label="not predicted")
    distance.plot(place, ordered["w2_predicted"], ".", ms=3, color=PREDICTED, label="predicted")
    distance.plot(place, ordered["w2_null"], color=REFERENCE, lw=0.8, label="independent runs")
    distance.set_xlabel("removal and query")
    distance.set_ylabel("W₂ to retraining")
    distance.legend()
    _draw_lds(ranks, lds[lds["random_numbers"] == "independent"])
    caption(
        figure,
        "Left: the removal and query with the largest change. Middle: same seeds. Right: predicted "
        "against independent retrained runs, lines: 95 % over runs; bars: the ceiling.",
    )
    return figure


def _draw_lds(axis: Axes, lds: pd.DataFrame) -> None:
    differences = list(dict.fromkeys(lds["difference"]))
    methods = list(dict.fromkeys(lds["method"]))
    for offset, (method, own) in enumerate(lds.groupby("method", sort=False)):
        place = np.arange(len(own)) + (offset - (len(methods) - 1) / 2) * 0.7 / len(methods)
        error = np.abs(own[["low_seed", "high_seed"]].to_numpy() - own[["value"]].to_numpy()).T
        axis.errorbar(place, own["value"], error, fmt="o", ms=3, lw=1, label=method)
    ceiling = lds.groupby("difference", sort=False)["ceiling"].first()
    axis.bar(range(len(differences)), ceiling, width=0.8, color="0.92", zorder=0)
    axis.set_xticks(range(len(differences)), differences)
    axis.set_ylabel("distributional LDS")
    axis.legend(fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5))  # beside what it names


@styled
def lds_curves(curves: pd.DataFrame, lds: pd.DataFrame) -> Figure:
    """Draw the distributional LDS against the number of runs that predict, a panel per difference.

    Args:
        curves: Table of :func:`tda.lds_by_runs`, with the column method.
        lds: Table of :func:`tda.validate`, with the columns method and random_numbers.
    """
    names = list(dict.fromkeys(curves["difference"]))
    figure, axes = panels(len(names), (3.2, 3.2), columns=2)
    truth = lds[lds["random_numbers"] == "independent"].groupby("difference").first()
    for axis, name in zip(axes, names, strict=True):
        for method, own in curves[curves["difference"] == name].groupby("method", sort=False):
            (line,) = axis.plot(own["n_seeds"], own["value"], "o-", ms=3, label=method)
            axis.fill_between(
                own["n_seeds"], own["low"], own["high"], color=line.get_color(), alpha=0.1, lw=0
            )
        axis.axhline(truth["ceiling"][name], color="black", lw=0.8)
        axis.axhline(truth["split_half"][name], color=REFERENCE, lw=0.8, ls="--")
        axis.set_xscale("log")
        axis.set_title(name)
        axis.set_xlabel("runs that predict")
        axis.set_ylabel("distributional LDS")
    entries = axes[0].get_legend_handles_labels()
    figure.legend(*entries, loc="outside upper left", ncols=3, fontsize=7)
    caption(
        figure,
        f"Against {truth['n_truth_seeds'].iloc[0]} independent retrained runs of each removal; "
        "bands: 95 % of the choices of runs. Solid line: ceiling; dashed: split-half of "
        "retraining.",
    )
    return figure
