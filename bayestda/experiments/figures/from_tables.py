"""Rows that the figure of estimates draws, from an experiment's tables."""

import numpy as np
import pandas as pd

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
    table = table[table["scope"] == "all_pairs"]
    alone = table["reference"].isna()
    return pd.concat(
        [
            panel(table[alone], ALONE, "agreement between seeds"),
            panel(table[~alone], WITH_LOO, "agreement with LOO"),
        ]
    )


def panel(table: pd.DataFrame, names: dict[str, str], title: str) -> pd.DataFrame:
    """Rows of one panel, its quantities in words and in the order of ``names``."""
    chosen = table[table["quantity"].isin(names)]
    place = chosen["quantity"].map(list(names).index)
    chosen = chosen.assign(panel=title, category=chosen["quantity"].map(names))
    return chosen.iloc[np.argsort(place, kind="stable")]
