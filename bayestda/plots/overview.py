"""Draw which scores can be trusted, and how well scores predict a ground truth."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayestda.errors import UserError
from bayestda.plots.pairs import least_reliable, most_reliable
from bayestda.plots.scores import score_distributions
from bayestda.plots.style import REFERENCE, caption, colour, label, panels, short, styled
from bayestda.statistics import loo_correlation, pair_reliability, run_means
from bayestda.statistics.alignment import like

MAX_POINTS = 20_000  # dots of a scatter plot; of more pairs a random part is drawn


def show(
    scores: xr.DataArray,
    *,
    test: int | None = None,
    truth: xr.DataArray | None = None,
    count: int = 6,
) -> Figure:
    """Draw scores seed by seed, or against a ground truth.

    Args:
        scores: Scores with dims (seed[, checkpoint], train, test), positive = helpful, from two
            seeds or more.
        test: Name of a test example, to draw its most helpful and most harmful training examples;
            None: the most and the least reliable pairs of the whole array.
        truth: Scores of a ground truth, such as leave-one-out, to draw mean scores against
            instead.
        count: Number of pairs in each panel.

    Returns:
        A matplotlib figure; ``figure.savefig("scores.png")`` writes it.

    Raises:
        UserError: There is no such test example, or the arrays do not fit together.
    """
    if truth is not None:
        return agreement(scores, truth)
    pairs = pair_reliability(scores)
    pairs["n_seeds"] = scores.sizes["seed"]
    if test is None:
        groups = {
            "most reliable": most_reliable(pairs, count),
            "least reliable": least_reliable(pairs, count),
        }
    else:
        groups = _extremes(pairs, test, count)
    return score_distributions(run_means(scores), pairs, groups, "Scores")


@styled
def agreement(scores: xr.DataArray, truth: xr.DataArray) -> Figure:
    """Draw mean scores against the mean ground truth, one dot for each pair.

    Args:
        scores: Scores with dims (seed[, checkpoint], train, test), positive = helpful.
        truth: Scores of the ground truth, with the same dims and sign.
    """
    figure, (axis,) = panels(1, (4.6, 4.2))
    for dim in ("train", "test"):
        scores = like(scores, truth, dim, "scores")
    x, y = (_mean(array).transpose("train", "test").values.ravel() for array in (scores, truth))
    note = ""
    if len(x) > MAX_POINTS:
        chosen = np.random.default_rng(0).choice(len(x), MAX_POINTS, replace=False)
        x, y, note = x[chosen], y[chosen], f", of which {MAX_POINTS:,} at random are drawn"
    _scatter(axis, x, y, str(scores.name))
    axis.set_xlabel(f"{label(str(scores.name))}, mean over seeds")
    axis.set_ylabel(f"{label(str(truth.name))}, mean over seeds")
    kinds = ("pearson", "spearman")
    correlations = {kind: loo_correlation(scores, truth, kind=kind) for kind in kinds}
    axis.set_title(", ".join(f"{kind} {short(value)}" for kind, value in correlations.items()))
    num_pairs = scores.sizes["train"] * scores.sizes["test"]
    caption(figure, f"n = {num_pairs:,} train-test pairs{note}.")
    return figure


def _scatter(axis: Axes, x: np.ndarray, y: np.ndarray, name: str) -> None:
    axis.axhline(0, color=REFERENCE, lw=0.8, zorder=0)
    axis.axvline(0, color=REFERENCE, lw=0.8, zorder=0)
    alpha = min(1.0, 60 / len(x) ** 0.5)  # the more dots, the fainter: opaque up to 3600
    axis.plot(x, y, "o", ms=3, alpha=alpha, mew=0, color=colour(name))


def _mean(scores: xr.DataArray) -> xr.DataArray:
    runs = run_means(scores)
    return runs.mean("seed") if "seed" in runs.dims else runs


def _extremes(pairs: xr.Dataset, test: int, count: int) -> dict[str, list[tuple[int, int]]]:
    if test not in pairs["test"].values:
        names = ", ".join(map(str, pairs["test"].values[:5]))
        raise UserError(f"there is no test example {test}: they are named {names}, ...")
    mean = pairs["mean"].sel(test=test)
    ranked = mean["train"].values[np.argsort(-mean.values, kind="stable")].tolist()
    count = min(count, len(ranked) // 2)  # no example on both sides
    return {
        f"most helpful for {test}": [(train, test) for train in ranked[:count]],
        f"most harmful for {test}": [(train, test) for train in ranked[::-1][:count]],
    }
