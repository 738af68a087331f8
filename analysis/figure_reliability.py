"""How far each method's scores can be trusted, and whether they explain their own model.

    python analysis/figure_reliability.py [--experiment NAME ...]

Reads   results/<experiment>/reliability.csv    from analysis/reliability.py
Writes  results/<experiment>/figures/reliability.png

Left: how well the seeds agree with each other, and the ceiling which that sets to any
correlation. Right: correlations with LOO, with the sign at which positive means agreement.
Takes about 2 s.
"""

import tda.interruption  # noqa: F401

from pathlib import Path

import numpy as np
import pandas as pd

from tda import paths
from tda.analysis import main
from tda.experiments import Experiment, helpful_sign
from tda.figures import estimates, sources, style

ALONE = {
    "split_half": "split half",
    "reliability": "reliability of\nthe mean",
    "ceiling": "ceiling for any\ncorrelation",
}
WITH_LOO = {
    "correlation": "means over seeds",
    "cross_half_corrected": "noise-free means\n(cross half, corrected)",
    "same_seed": "single runs,\nsame seed",
    "cross_seed": "single runs,\nother seed",
    "same_minus_cross": "same minus\nother seed",
}
NOTE = (
    "Pearson over all train-test pairs; lines: 95 % jackknife interval over seeds. With LOO: "
    "positive = the same examples are found helpful."
)


def analyse(experiment: Experiment) -> list[Path]:
    """Draw one experiment."""
    table = aligned(sources.read_table(experiment, "reliability"))
    table = table[table["scope"] == "all_pairs"]
    alone = table["reference"].isna()
    runs = "/".join(str(n) for n in sorted(table["n_seeds"].unique()))
    rows = pd.concat(
        [
            panel(table[alone], ALONE, "agreement between seeds"),
            panel(table[~alone], WITH_LOO, "agreement with LOO"),
        ]
    )
    heading = f"{style.title(experiment)} · n = {runs} seeds"
    figure = estimates.estimates(rows, heading, "correlation", (0, 1), NOTE)
    return [style.save(paths.figure(experiment.name, "reliability"), figure)]


def aligned(table: pd.DataFrame) -> pd.DataFrame:
    """Values and intervals in the sign at which positive means agreement about who helps."""
    with_loo = table["reference"].notna()
    signs = table["method"].map(helpful_sign) * helpful_sign("loo")
    flipped = (with_loo & (signs < 0)).to_numpy()
    return table.assign(
        value=table["aligned"],
        low=np.where(flipped, -table["high"], table["low"]),
        high=np.where(flipped, -table["low"], table["high"]),
    )


def panel(table: pd.DataFrame, names: dict[str, str], title: str) -> pd.DataFrame:
    """Rows of one panel, its quantities in words and in the order of ``names``."""
    chosen = table[table["quantity"].isin(names)]
    place = chosen["quantity"].map(list(names).index)
    chosen = chosen.assign(panel=title, category=chosen["quantity"].map(names))
    return chosen.iloc[np.argsort(place, kind="stable")]


if __name__ == "__main__":
    main(__doc__, analyse)
