"""Figures of margins whose spread changes by a removal and whose mean does not."""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayestda.distributional.influence import UNCHANGED
from bayestda.experiments.figures.distributions import BEFORE, PREDICTED, RETRAINED
from bayestda.plots.style import REFERENCE, caption, panels, styled

UNITS = {
    "mean": "Δ mean [standard deviations]",
    "variance": "Δ variance [share of it]",
    "tail": "Δ P(lower tail)",
}


@styled
def pairs(samples: xr.Dataset, table: pd.DataFrame, tests: pd.DataFrame) -> Figure:
    """Draw changes by removal of chosen images and of controls, and one as distributions.

    Args:
        samples: Variables before, retrained.
        table: Columns train, test, value, low, high, difference, source, pair, role, chosen_by.
        tests: Table of :func:`tda.confirm_removals`, of the same pairs; the surest is shown.
    """
    figure, (*axes, sample) = panels(4, (3.5, 3.2), columns=2)
    for axis, (difference, unit) in zip(axes, UNITS.items(), strict=True):
        _draw_changes(axis, table[table["difference"] == difference])
        axis.set_ylabel(unit)
    _draw_sample(sample, samples, tests)
    axes[0].legend(fontsize=6)
    axes[0].axhspan(-UNCHANGED, UNCHANGED, color=REFERENCE, alpha=0.15, lw=0)
    figure.suptitle(
        f"Chosen by {samples.sizes['seed']} runs, confirmed by {samples.sizes['other_seed']} "
        "others", x=0.01, ha="left", weight="bold",
    )  # fmt: skip
    caption(
        figure,
        "Chosen pairs of a removed image and a query (v: for the variance, t: for the tail), "
        "and random images at the same query; bars: 95 % over runs; grey: means that count as "
        "unchanged. Lower right: the pair with the smallest p of those chosen for the variance.",
    )
    return figure


def _draw_changes(axis: Axes, table: pd.DataFrame) -> None:
    chosen = table[table["role"] == "chosen"]
    for source, colour, moved in (("screened", PREDICTED, -0.15), ("retrained", RETRAINED, 0.15)):
        own = chosen[chosen["source"] == source]
        error = np.abs(own[["low", "high"]].to_numpy() - own[["value"]].to_numpy()).T
        axis.errorbar(own["pair"] + moved, own["value"], error, fmt="o", ms=4, color=colour,
                      lw=1, label=source)  # fmt: skip
    other = table[(table["role"] == "control") & (table["source"] == "retrained")]
    axis.plot(other["pair"] + 0.35, other["value"], "x", ms=4, color=BEFORE, label="controls")
    axis.axhline(0, color=REFERENCE, lw=0.8)
    named = chosen.drop_duplicates("pair")
    labels = [f"{row.chosen_by[0]}: {row.train}→{row.test}" for row in named.itertuples()]
    axis.set_xticks(named["pair"], labels, rotation=60, fontsize=6)


def _draw_sample(axis: Axes, samples: xr.Dataset, tests: pd.DataFrame) -> None:
    chosen = tests[(tests["role"] == "chosen") & (tests["difference"] == "variance")]
    most = chosen.sort_values("p").iloc[0]
    before = samples["before"].sel(test=most["test"]).values
    after = samples["retrained"].sel(test=most["test"], removed=most["train"]).values
    for values, colour, label in ((before, BEFORE, "before"), (after, RETRAINED, "retrained")):
        share = (np.arange(len(values)) + 0.5) / len(values)
        axis.plot(np.sort(values), share, color=colour, label=label)
    axis.set_xlabel(f"margin of query {most['test']} without image {most['train']}")
    axis.set_ylabel("share of runs below")
    axis.legend()
