"""Figure of our own: how well estimators predict retraining, and curves over λ and 1/τ."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayestda.plots.style import REFERENCE, caption, panels, styled

TRUTHS = {
    ("pearson", "all_pairs"): "Pearson with LOO, all pairs",
    ("lds", "per_test"): "linear datamodelling score",
}
CURVES = {"influence": "influence, damping λ", "flow": "flow filter, λ = 1/τ"}


@styled
def ground_truth(table: pd.DataFrame, heading: str) -> Figure:
    """Draw dots with intervals per estimator and truth, and Pearson's correlation over damping.

    Args:
        table: Columns of analysis/ground_truth.py; rows with a damping are the curves' points.
        heading: Title of the figure.
    """
    named = table[table["damping"].isna()]
    truths = [key for key in TRUTHS if (named["metric"] == key[0]).any()]
    figure, axes = panels(len(truths) + 1, (4.6, 4.2), columns=len(truths) + 1)
    for axis, key in zip(axes, truths, strict=False):
        _dots(axis, named[(named["metric"] == key[0]) & (named["scope"] == key[1])])
        axis.set_title(TRUTHS[key])
    _curves(axes[-1], table[(table["metric"] == "pearson") & (table["scope"] == "all_pairs")])
    figure.suptitle(heading, x=0.01, ha="left", weight="bold")
    caption(
        figure,
        "Lines and bands: 95 % jackknife intervals over seeds. Dashed: ceiling that the truth's "
        "own noise sets. Dotted: λ = 1/τ of the training, untuned.",
    )
    return figure


def _dots(axis: Axes, rows: pd.DataFrame) -> None:
    rows = rows.sort_values("value", ascending=False)
    heights = range(len(rows))
    axis.hlines(heights, rows["low_seed"], rows["high_seed"], lw=2, alpha=0.5)
    axis.plot(rows["value"], heights, "o", ms=5)
    axis.axvline(rows["ceiling"].iloc[0], color=REFERENCE, ls="--", lw=1)
    axis.set_yticks(heights, rows["method"])
    axis.invert_yaxis()
    axis.grid(axis="x", color="0.92")


def _curves(axis: Axes, rows: pd.DataFrame) -> None:
    for kind, label in CURVES.items():
        own = rows[(rows["curve"] == kind) & rows["damping"].notna()].sort_values("damping")
        (line,) = axis.plot(own["damping"], own["value"], "o-", ms=4, label=label)
        axis.fill_between(
            own["damping"], own["low_seed"], own["high_seed"], color=line.get_color(), alpha=0.12,
            lw=0,
        )  # fmt: skip
    axis.axhline(rows["ceiling"].iloc[0], color=REFERENCE, ls="--", lw=1)
    axis.axvline(rows["matched_damping"].iloc[0], color=REFERENCE, ls=":", lw=1)
    axis.set_xscale("log")
    axis.set_xlabel("λ")
    axis.set_title("Pearson with LOO over λ")
    axis.legend(frameon=False)
