"""Draw printed numbers of the paper beside those that were made here."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayestda.plots import style

PRINTED, RELEASED, OURS = "printed in the paper", "the released way, run here", "ours: Student's t"


@style.styled
def printed_and_run(table: pd.DataFrame, ours: pd.DataFrame, heading: str) -> Figure:
    """Draw mean p by method and by the number of checkpoints, and all printed correlations.

    Args:
        table: Columns quantity, of, printed, released, same, as of
            :func:`bayestda.experiments.published.comparison`.
        ours: Columns method and mean_p; may be empty.
        heading: The experiment in words.
    """
    figure, (methods, checkpoints, correlations) = style.panels(3, (3.3, 3.1))
    _by_method(methods, table[table["quantity"] == "mean p"], ours)
    _by_checkpoints(checkpoints, table[table["quantity"] == "mean p of LOO"])
    _all_correlations(correlations, table[table["quantity"].str.contains("correlation")])
    figure.suptitle(f"Printed and run again · {heading}", x=0.01, ha="left", weight="bold")
    style.caption(
        figure,
        "p in black is the released code's statistic, 2 Φ(−|mean/std|) over seeds; .79 if no pair "
        "had an effect." + (" That of Student's t is .5 then." if len(ours) else ""),
    )
    return figure


def _by_method(axis: Axes, rows: pd.DataFrame, ours: pd.DataFrame) -> None:
    places = np.arange(len(rows))
    axis.plot(places, rows["printed"], "o", ms=9, mfc="none", mec="black", label=PRINTED)
    axis.plot(places, rows["released"], "o", ms=3.5, color="black", label=RELEASED)
    if len(ours):
        mean_p = ours.set_index("method")["mean_p"].reindex(rows["of"])
        axis.plot(places, mean_p, "D", ms=4.5, color="tab:blue", label=OURS)
    axis.set_xticks(places, [style.label(method) for method in rows["of"]], rotation=30)
    axis.set(title="mean p over all pairs (table 4)", ylim=(0, None))
    axis.legend()


def _by_checkpoints(axis: Axes, rows: pd.DataFrame) -> None:
    places = np.arange(1, len(rows) + 1)
    axis.plot(places, rows["printed"], "o", ms=9, mfc="none", mec="black")
    axis.plot(places, rows["released"], "o-", ms=3.5, lw=1, color="black")
    axis.set(
        title="mean p of LOO (figure 6)", xlabel="checkpoints averaged", xticks=places,
        ylim=(0, None),
    )  # fmt: skip


def _all_correlations(axis: Axes, rows: pd.DataFrame) -> None:
    axis.axline((0, 0), slope=1, color=style.REFERENCE, lw=0.8)
    axis.plot(rows["printed"], rows["released"], "o", ms=3.5, color="black")
    same = f"{int(rows['same'].sum())} of {len(rows)} as printed"
    axis.set(title=f"figure 8: {same}", xlabel="printed", ylabel="run here")
