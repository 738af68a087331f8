"""Figures of networks that are trained without their least helpful images."""

import pandas as pd
from matplotlib.figure import Figure

from bayestda.plots.style import REFERENCE, caption, panels, styled

UNITS = {"loss": "test loss", "accuracy": "test accuracy"}


@styled
def curves(table: pd.DataFrame, num_runs: int) -> Figure:
    """Draw the change of loss and accuracy against the share removed, a line per rule.

    Args:
        table: Columns measure, rule, share, mean, low, high.
        num_runs: Number of runs behind each point.
    """
    figure, axes = panels(2, (3.6, 3.2), columns=2)
    for axis, (measure, unit) in zip(axes, UNITS.items(), strict=True):
        own = table[table["measure"] == measure]
        for rule, rows in own.groupby("rule", sort=False):
            (line,) = axis.plot(100 * rows["share"], rows["mean"], "o-", ms=3, label=rule)
            axis.fill_between(
                100 * rows["share"], rows["low"], rows["high"], color=line.get_color(),
                alpha=0.15, lw=0,
            )  # fmt: skip
        axis.axhline(0, color=REFERENCE, lw=0.8)
        axis.set_xlabel("% of the images removed")
        axis.set_ylabel(f"change of the {unit}")
    axes[0].legend()
    caption(figure, f"Against the same {num_runs} runs with all images; bands: 95 % over runs.")
    return figure
