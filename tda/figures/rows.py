"""What :func:`tda.figures.estimates.estimates` draws of an experiment's tables, in words."""

import numpy as np
import pandas as pd

from tda.experiments import helpful_sign

SEED = {
    "init": "seed\n(initialisation\nand order)",
    "batch": "seed\n(order)",
    "init_only": "seed\n(initialisation)",
}
COMPONENTS = {
    "init": "initialisation",
    "order": "order",
    "interaction": "interaction",
    "epoch": "epoch,\ncommon to runs",
    "seed_x_epoch": "seed × epoch",
    "run_x_epoch": "run × epoch",
}
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


def variance_rows(randomness: str, table: pd.DataFrame) -> pd.DataFrame:
    """Rows of variance.csv that are shares of one whole, with their components in words."""
    names = {"seed": SEED.get(randomness), **COMPONENTS}
    category = table["component"].map(names)
    return table.assign(category=category, value=table["share"])[category.notna()]


def reliability_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of reliability.csv over all pairs: of methods alone, and with LOO."""
    table = aligned(table[table["scope"] == "all_pairs"])
    alone = table["reference"].isna()
    return pd.concat(
        [
            panel(table[alone], ALONE, "agreement between seeds"),
            panel(table[~alone], WITH_LOO, "agreement with LOO"),
        ]
    )


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
