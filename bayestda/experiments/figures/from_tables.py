"""Rows that figures of estimates draw, chosen from an experiment's tables."""

import numpy as np
import pandas as pd

from bayestda.experiments.metrics import of_table

SEED = {
    "init": "seed\n(initialisation\nand order)",
    "batch": "seed\n(order)",
    "init_only": "seed\n(initialisation)",
    "published": "seed\n(initialisation\nand order)",
}
COMPONENTS = {
    "init": "initialisation",
    "order": "order",
    "interaction": "interaction",
    "epoch": "epoch,\ncommon to runs",
    "seed_x_epoch": "seed × epoch",
    "run_x_epoch": "run × epoch",
}


def variance_rows(randomness: str, table: pd.DataFrame) -> pd.DataFrame:
    """Select the rows of variance.csv that are shares of one whole; name their components."""
    names = {"seed": SEED.get(randomness), **COMPONENTS}
    category = table["component"].map(names)
    return table.assign(category=category, value=table["share"])[category.notna()]


def reliability_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Select the rows of reliability.csv over all pairs; a panel each for alone and with LOO."""
    table = table[table["scope"] == "all_pairs"]
    titles = {False: "agreement between seeds", True: "agreement with LOO"}
    panels = []
    for with_loo, title in titles.items():
        labels = {one.name: one.label for one in of_table("reliability", with_loo) if one.label}
        panels.append(panel(table[table["reference"].notna() == with_loo], labels, title))
    return pd.concat(panels)


def panel(table: pd.DataFrame, names: dict[str, str], title: str) -> pd.DataFrame:
    """Return the rows of one panel, its quantities in words and in the order of ``names``."""
    chosen = table[table["quantity"].isin(names)]
    place = chosen["quantity"].map(list(names).index)
    chosen = chosen.assign(panel=title, category=chosen["quantity"].map(names))
    return chosen.iloc[np.argsort(place, kind="stable")]
