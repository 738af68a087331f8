"""Draw the scores of single pairs, seed by seed."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayestda.plots.style import REFERENCE, caption, colour, label, panels, probability, styled

NOTE = (
    "Dots: seeds. Black: mean ± standard error. Below: training example → test example, "
    "p (Student t), q (Benjamini-Hochberg over all pairs)."
)
Pair = tuple[int, int]


@styled
def score_distributions(
    scores: xr.DataArray, pairs: xr.Dataset, groups: dict[str, list[Pair]], heading: str
) -> Figure:
    """Draw the scores of chosen pairs, one dot for each seed, with mean and standard error.

    Args:
        scores: Scores with dims (seed, train, test), checkpoints averaged; ``scores.name`` is the
            method.
        pairs: Variables mean, std, p, q with dims (train, test), and n_seeds.
        groups: Pairs (train, test) of each panel, by its title.
        heading: Name of the experiment.
    """
    longest = max(len(chosen) for chosen in groups.values())
    method = label(str(scores.name))
    figure, axes = panels(len(groups), (0.75 * longest + 1.2, 3.9), columns=2)
    for axis, (name, chosen) in zip(axes, groups.items(), strict=True):
        for position, pair in enumerate(chosen):
            _draw_pair(axis, position, scores, pairs, pair)
        axis.axhline(0, color=REFERENCE, lw=1, zorder=0)
        names = [_pair_name(pairs, pair) for pair in chosen]
        axis.set_xticks(range(len(chosen)), names, fontsize=7)
        axis.set_xlim(-0.6, longest - 0.4)
        axis.set_title(name)
    axes[0].set_ylabel(f"{method} score, mean of the run's checkpoints")
    heading = f"{heading} · {method} · n = {scores.sizes['seed']} seeds"
    figure.suptitle(heading, x=0.01, ha="left", weight="bold")
    caption(figure, NOTE)
    return figure


def _draw_pair(
    axis: Axes, position: int, scores: xr.DataArray, pairs: xr.Dataset, pair: Pair
) -> None:
    values_S = scores.sel(train=pair[0], test=pair[1]).values
    # Dots of a pair stand side by side, so that equal scores do not hide each other.
    offset_S = np.linspace(-0.18, 0.18, len(values_S))
    axis.plot(
        position + offset_S, values_S, "o", ms=4, alpha=0.75, mew=0, color=colour(str(scores.name))
    )
    cell = pairs.sel(train=pair[0], test=pair[1])
    error = float(cell["std"]) / float(cell["n_seeds"]) ** 0.5
    bar: dict[str, Any] = {
        "fmt": "_",
        "ms": 16,
        "mew": 1.6,
        "lw": 1.6,
        "color": "black",
        "capsize": 0,
    }
    axis.errorbar(position, float(cell["mean"]), error, **bar)


def _pair_name(pairs: xr.Dataset, pair: Pair) -> str:
    cell = pairs.sel(train=pair[0], test=pair[1])
    lines = [str(pair[0]), f"→ {pair[1]}", *(probability(k, float(cell[k])) for k in ("p", "q"))]
    return "\n".join(lines)
