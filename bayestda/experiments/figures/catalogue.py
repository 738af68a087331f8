"""Figures of the image experiments, each with one entry in :data:`FIGURES`.

``analysis/figures.py`` draws them, the Snakefile plans them, and the page shows those that have a
title. A new figure is one function and one entry; docs/extending.md has an example.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure as Drawing

from bayestda import statistics
from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.analysis import independent_scores
from bayestda.experiments.data.images import read_images
from bayestda.experiments.figures import names, read_tables
from bayestda.experiments.figures.correlations import correlation_maps, figure_names
from bayestda.experiments.figures.estimates import estimates
from bayestda.experiments.figures.exemplars import COLUMNS, gallery_rows
from bayestda.experiments.figures.from_tables import reliability_rows, variance_rows
from bayestda.experiments.figures.gallery import gallery as tiled
from bayestda.experiments.figures.histograms import p_value_histograms
from bayestda.experiments.figures.p_values import p_value_by_checkpoints, p_value_by_size
from bayestda.experiments.grid import METHODS, Experiment
from bayestda.plots import style
from bayestda.plots.pairs import least_reliable, most_reliable
from bayestda.plots.scores import score_distributions

Drawn = Iterator[tuple[str, Drawing]]


@dataclass(frozen=True)
class Figure:
    """A figure of an experiment, or one that compares experiments.

    Attributes:
        table: Table that must be there before: a name of ``TABLES`` in outputs.py.
        draw: Function from an experiment to drawings, each with the name of its file without
            suffix; of a comparing figure from a list of experiments.
        comparing: Whether it compares experiments.
        title: Its title on the page; "": the page does not show it.
        caption: How to read it, on the page.
    """

    table: str
    draw: Callable[[Any], Drawn]
    comparing: bool = False
    title: str = ""
    caption: str = ""


def save(figure: Figure, subject: Experiment | list[Experiment]) -> Iterator[Path]:
    """Draw a figure, and yield each file as it is written.

    Args:
        figure: An entry of :data:`FIGURES`.
        subject: An experiment, or those to compare.

    Raises:
        UserError: Its table is missing or damaged, or the file cannot be written.
    """
    folder = None if isinstance(subject, list) else subject.name
    for name, drawing in figure.draw(subject):
        yield style.save(paths.figure(folder, name), drawing)


def correlations(experiment: Experiment) -> Drawn:
    """Draw correlations between the methods as heat maps (figures 5 and 8 to 17 of the paper)."""
    table = read_tables.read_table(experiment, "correlations")
    table = table[table["scope"] == "all_pairs"]
    of_paper = table[table["method_a"].isin(METHODS) & table["method_b"].isin(METHODS)]
    heading = names.title(experiment)
    for name in figure_names(experiment.name) if len(of_paper) else []:
        yield name, correlation_maps(of_paper, heading)
    if len(of_paper) < len(table):
        yield "correlations_of_variants", correlation_maps(table, heading)


def variance(experiment: Experiment) -> Drawn:
    """Draw where the variance of each method's scores comes from."""
    table = read_tables.read_table(experiment, "variance")
    rows = variance_rows(experiment.randomness, table)
    panel = f"n = {_seeds(rows)} runs, {rows['n_pairs'].max():,} pairs"
    note = FIGURES["variance"].caption
    heading = names.title(experiment)
    yield (
        "variance",
        estimates(rows.assign(panel=panel), heading, "share of variance", (0, 1), note),
    )


def reliability(experiment: Experiment) -> Drawn:
    """Draw how far each method's scores can be trusted, and whether they explain their model."""
    table = read_tables.read_table(experiment, "reliability")
    rows = reliability_rows(table)
    heading = f"{names.title(experiment)} · n = {_seeds(table)} seeds"
    note = FIGURES["reliability"].caption
    yield "reliability", estimates(rows, heading, "correlation", (0, 1), note)


def distributions_of_scores(experiment: Experiment) -> Drawn:
    """Draw LOO scores of the eight most and the eight least reliable pairs, seed by seed."""
    pairs = read_tables.read_pairs(experiment, "loo")
    runs = statistics.run_means(independent_scores(experiment, "loo")["score"]).rename("loo")
    groups = {
        "most reliable pairs (smallest q)": most_reliable(pairs, 8),
        "least reliable pairs (largest p)": least_reliable(pairs, 8),
    }
    heading = names.title(experiment)
    yield "score_distributions", score_distributions(runs, pairs, groups, heading)


def gallery(experiment: Experiment, method: str = "loo") -> Drawn:
    """Draw test images of the most and least reliable pairs, with their training images.

    Args:
        experiment: The experiment.
        method: Method to show below LOO, which chooses the pairs.
    """
    methods = dict.fromkeys(("loo", method))
    pairs = {name: read_tables.read_pairs(experiment, name) for name in methods}
    train, test = (
        read_images(paths.images(experiment.task, split), pairs["loo"][split].values)
        for split in ("train", "test")
    )
    exact = train.exact and test.exact
    heading = names.title(experiment) + ("" if exact else " · JPEG re-encoded images")
    seeds = "/".join(sorted({str(int(dataset["n_seeds"])) for dataset in pairs.values()}))
    note = (
        f"Captions: label, number in the original data set, mean score ± standard error over n = "
        f"{seeds} seeds, q-value (Benjamini-Hochberg over all pairs).\nBlue frame: by the sign of "
        "its mean score the training image helps; orange: it harms."
    )
    rows = gallery_rows(pairs, train, test)
    name = "gallery" if len(pairs) == 1 else f"gallery_loo_{method}"
    yield name, tiled(rows, COLUMNS, heading=heading, note=note)


def histograms(experiments: list[Experiment]) -> Drawn:
    """Draw histograms of LOO's p-values (figures 3 and 7 of the paper)."""
    chosen = read_tables.existing(experiments, lambda one: paths.pairs(one.name, "loo"))
    groups = {
        ("figure_03", "DE-Init"): [one for one in chosen if one.randomness == "init"],
        ("figure_07", "other kinds of randomness"): [
            one for one in chosen if one.randomness != "init"
        ],
    }
    for (number, kind), group in groups.items():
        if group:
            pairs = {names.title(one): read_tables.read_pairs(one, "loo") for one in group}
            drawing = p_value_histograms(pairs, f"LOO p-values · {kind}")
            yield f"{number}_p_value_histograms", drawing


def by_size(experiments: list[Experiment]) -> Drawn:
    """Draw mean p-values against the training set size (figure 4 of the paper)."""
    table = read_tables.p_value_table(experiments)
    panel = table["model"] + " · " + table["task"] + " · " + table["randomness"]
    table = table.assign(panel=panel)
    longest = table.groupby(["panel", "method", "num_train"])["num_checkpoints"].transform("max")
    yield "figure_04_p_value_by_size", p_value_by_size(table[table["num_checkpoints"] == longest])


def by_checkpoints(experiments: list[Experiment]) -> Drawn:
    """Draw LOO's mean p-value against the number of checkpoints (figure 6 of the paper)."""
    table = read_tables.p_value_table(experiments)
    table = table[table["method"] == "loo"]
    if table.empty:
        command = read_tables.made_by(experiments[0], "p_values")
        raise UserError(f"no p_values.csv has a row of LOO: make LOO scores, then run `{command}`")
    table = table.assign(panel=table["model"] + " · " + table["task"])
    yield "figure_06_p_value_by_checkpoints", p_value_by_checkpoints(table)


def _seeds(table: pd.DataFrame) -> str:
    return "/".join(str(n) for n in sorted(table["n_seeds"].unique()))


FIGURES = {
    "correlations": Figure("correlations", correlations),
    "variance": Figure(
        "variance",
        variance,
        title="Components of variance",
        caption="Dots: share of the variance of one score (one run, one checkpoint), summed over "
        "all pairs. Lines: 95 % jackknife intervals. Estimates are unbiased and may be negative.",
    ),
    "reliability": Figure(
        "reliability",
        reliability,
        title="Reliability, and agreement with LOO",
        caption="Left: agreement of the seeds with each other, and the ceiling that it sets to any "
        "correlation. Right: correlations with LOO; positive = the same examples are found "
        "helpful. Pearson over all pairs; lines: 95 % jackknife intervals over seeds.",
    ),
    "score_distributions": Figure("p_values", distributions_of_scores),
    "gallery": Figure("p_values", gallery),
    "p_value_histograms": Figure("p_values", histograms, comparing=True),
    "p_value_by_size": Figure("p_values", by_size, comparing=True),
    "p_value_by_checkpoints": Figure("p_values", by_checkpoints, comparing=True),
}
