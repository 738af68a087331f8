"""Draw the figures of the papers' tables for the page."""

import pandas as pd

from bayestda.experiments.figures.damping import damping_curve
from bayestda.experiments.figures.estimates import estimates
from bayestda.experiments.figures.from_tables import reliability_rows, variance_rows
from bayestda.experiments.grid import Experiment
from bayestda.page.drawings import inline_svg
from bayestda.page.model import Drawing


def reliability(table: pd.DataFrame) -> Drawing:
    """Draw the agreement between seeds, and with LOO."""
    caption = (
        "Left: how well the seeds agree with each other, and the ceiling that this sets to any "
        "correlation. Right: correlations with LOO; positive = the same examples are found "
        "helpful. Pearson over all pairs; lines: 95 % jackknife intervals over seeds."
    )
    title = "Reliability, and agreement with LOO"
    figure = estimates(reliability_rows(table), "", "correlation", (0, 1), "")
    return Drawing(title, inline_svg(figure, f"{title}. {caption}"), caption, wide=True)


def variance(experiment: Experiment, table: pd.DataFrame) -> Drawing:
    """Draw the components of the variance of one score."""
    caption = (
        "Dots: share of the variance of one score (one run, one checkpoint), summed over all "
        "pairs. Lines: 95 % jackknife intervals. Estimates are unbiased and may be negative."
    )
    rows = variance_rows(experiment.randomness, table)
    title = f"Components of variance, {table['n_seeds'].max()} runs"
    figure = estimates(rows.assign(panel=""), "", "share of variance", (0, 1), "")
    return Drawing(title, inline_svg(figure, f"{title}. {caption}"), caption, wide=True)


def damping(table: pd.DataFrame) -> Drawing:
    """Draw the agreement of influence functions with LOO by damping."""
    title = "Influence function and LOO, by damping"
    caption = "Pearson correlation; bands: 95 % jackknife intervals over seeds."
    return Drawing(title, inline_svg(damping_curve(table, ""), title), caption, wide=True)
