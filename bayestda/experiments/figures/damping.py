"""Curves of our own: agreement with LOO against a hyperparameter."""

import pandas as pd
from matplotlib.figure import Figure

from bayestda.plots.style import REFERENCE, caption, panels, styled

LINES = {  # quantity of bayestda.statistics.agreement: label
    "correlation": "means over all seeds",
    "cross_half": "influence of one half, LOO of the other",
    "same_seed": "single runs, same seed",
    "cross_seed": "single runs, other seed",
}


@styled
def damping_curve(table: pd.DataFrame, heading: str) -> Figure:
    """Draw the Pearson correlation of the influence function with LOO against its damping.

    Args:
        table: Columns damping, quantity, value, low, high, n_seeds.
        heading: Title of the figure.
    """
    figure, (axis,) = panels(1, (6.4, 4.0), columns=1)
    for quantity, label in LINES.items():
        rows = table[table["quantity"] == quantity].sort_values("damping")
        (line,) = axis.plot(rows["damping"], rows["value"], "o-", ms=4, label=label)
        axis.fill_between(
            rows["damping"], rows["low"], rows["high"], color=line.get_color(), alpha=0.12, lw=0
        )
    axis.axhline(0, color=REFERENCE, lw=0.8)
    axis.set_xscale("log")
    axis.set_xlabel("damping λ")
    axis.set_ylabel("Pearson correlation with LOO")
    axis.legend(frameon=False)
    figure.suptitle(
        f"{heading} · n = {table['n_seeds'].max()} seeds", x=0.01, ha="left", weight="bold"
    )
    caption(figure, "Bands: 95 % jackknife intervals over seeds. Positive = the same are helpful.")
    return figure
