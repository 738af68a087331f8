"""Simulated schedules: time to the end, and GPU-hours that are not work, by the size of a job."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tda.figures import style

LOST = {  # column: name, colour
    "overhead_h": ("starting", style.COLOURS["ats"]),
    "lost_h": ("lost to failures", style.COLOURS["grad_cos"]),
    "lost_unkept_h": ("… if jobs kept no parts", style.COLOURS["grad_dot"]),
    "idle_h": ("idle or away", style.REFERENCE),
}
ENDS = style.COLOURS["loo"]


@style.styled
def by_size(table: pd.DataFrame, heading: str, note: str) -> Figure:
    """A column of two panels for each number of GPUs.

    Args:
        table: columns gpus, size, work_h, and of makespan_h and those of ``LOST`` the mean,
            ``_low`` and ``_high``.
        heading, note: what it is, and what was assumed.
    """
    numbers = sorted(table["gpus"].unique())
    figure = Figure(figsize=(3.1 * len(numbers), 5.2), layout="constrained")
    axes_2G = figure.subplots(2, len(numbers), sharex=True, squeeze=False)
    for (above, below), gpus in zip(axes_2G.T, numbers, strict=True):
        rows = table[table["gpus"] == gpus]
        _line(above, rows, "makespan_h", ENDS, "until the end")
        ideal_h = rows["work_h"].iloc[0] / gpus
        above.axhline(ideal_h, color=style.REFERENCE, linestyle="--", label="work / GPUs")
        above.set(title=f"{gpus} GPUs", ylim=(0, None))
        for column, (name, colour) in LOST.items():
            _line(below, rows, column, colour, name)
        below.set(xlabel="retrainings in a job", xscale="log", yscale="log")
        below.set_xticks(rows["size"], [str(size) for size in rows["size"]])
        below.minorticks_off()
    axes_2G[0, 0].set_ylabel("hours")
    axes_2G[1, 0].set_ylabel("GPU-hours that are not work")
    axes_2G[0, 0].legend()
    lower = axes_2G[1, 0].get_legend_handles_labels()
    axes_2G[0, -1].legend(*lower, title="in the lower row", loc="upper left", alignment="left")
    figure.suptitle(heading, x=0.01, ha="left", fontsize=11)
    style.caption(figure, note)
    return figure


def _line(axes: Axes, rows: pd.DataFrame, column: str, colour: str, name: str) -> None:
    axes.plot(rows["size"], rows[column], color=colour, marker="o", markersize=3, label=name)
    axes.fill_between(
        rows["size"], rows[f"{column}_low"], rows[f"{column}_high"], color=colour, alpha=0.2, lw=0
    )
