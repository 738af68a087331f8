"""Figures of margins without groups of images."""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayestda.experiments.figures.distributions import BEFORE, PREDICTED, RETRAINED
from bayestda.plots.style import caption, panels, styled


@styled
def margins(samples: xr.Dataset, errors: pd.DataFrame) -> Figure:
    """Draw a panel per group: the query that it moves most, before, predicted and retrained.

    Args:
        samples: Variables measured, shift, retrained.
        errors: Table of :func:`tda.validate`.
    """
    names = samples["group"].values.tolist()
    figure, axes = panels(len(names), (2.9, 2.6), columns=3)
    for axis, name in zip(axes, names, strict=True):
        _draw(axis, samples.sel(group=name), errors[errors["group"] == name].reset_index())
        axis.set_title(f"without {name}", fontsize=8)
    axes[0].legend(fontsize=6)
    caption(
        figure,
        f"Of each group the query whose margin changes most, over {samples.sizes['seed']} runs "
        "with and without it (same seeds).",
    )
    return figure


def _draw(axis: Axes, samples: xr.Dataset, errors: pd.DataFrame) -> None:
    at = samples.sel(test=errors.loc[errors["w2_before"].idxmax(), "test"])
    before = at["measured"].values
    for values, colour, label in (
        (before, BEFORE, "before"),
        (before + at["shift"].values, PREDICTED, "predicted"),
        (at["retrained"].values, RETRAINED, "retrained"),
    ):
        share = (np.arange(len(values)) + 0.5) / len(values)
        axis.plot(np.sort(values), share, color=colour, label=label)
    axis.set_xlabel(f"margin of query {int(at['test'])}")
    axis.set_ylabel("share of runs below")
