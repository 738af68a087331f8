"""Sections of the page of an image experiment: figures and tables, and how to read them."""

import xarray as xr

from tda import paths, statistics
from tda.experiments import Experiment
from tda.figures import style
from tda.figures.sources import read_table
from tda.report import drawings, tables
from tda.report.model import Section
from tda.report.words import TABLES

Scores = dict[str, xr.DataArray]


def sections(experiment: Experiment, scores: Scores) -> list[Section]:
    """What the tables of an experiment tell, and its scores."""
    has = {name: paths.table(experiment.name, name).exists() for name in TABLES}
    read = {name: read_table(experiment, name) for name in TABLES if has[name]}
    shown = [
        Section("summary", "In short", TABLES_OF_ALL, tables=tables.summary(experiment)),
        _tests(scores, read),
        _agreement(read),
    ]
    if "variance" in read:
        shown.append(_variance(experiment, read))
    shown.append(_by_label(scores))
    shown.append(Section("numbers", "All numbers", NUMBERS, tables=tables.folded(read, TABLES)))
    return [section for section in shown if section.drawings or section.tables]


TABLES_OF_ALL = (
    "Each training example has, for each test example, a score that is random: it depends on the "
    "seed of the training run. Here is how far the scores of each method can be trusted, and how "
    "far they agree with leaving the example out and training again (LOO).",
)
NUMBERS = (
    "The tables behind the figures, as the analysis scripts write them. Columns value, low and "
    "high are in the signs of the paper, where ATS and IF are negative if an example helps; "
    "aligned is in the sign of this page.",
)


def _tests(scores: Scores, read: dict) -> Section:
    """Histograms of p-values, and their table."""
    text = (
        "Student's t-test of each pair: is the mean score over seeds zero? If no pair had an "
        "effect, all bars would reach the dashed line.",
    )
    drawn = [drawings.p_values(name, statistics.student_t(values)["p"])
             for name, values in scores.items()]  # fmt: skip
    shown = [tables.p_values(read["p_values"])] if "p_values" in read else []
    return Section("effects", "Is there an effect?", text, drawn, shown)


def _agreement(read: dict) -> Section:
    """Heat maps of correlations, reliability, and damping."""
    text = (
        "Correlations between the mean scores of two methods over all pairs; positive = the same "
        "training examples are found helpful. In brackets: 95 % intervals over seeds.",
    )
    shown, drawn = [], []
    if "correlations" in read:
        kinds = ("pearson", "spearman")
        shown = [tables.correlations(read["correlations"], kind) for kind in kinds]
    if "reliability" in read:
        drawn.append(drawings.reliability(read["reliability"]))
    if "damping" in read:
        drawn.append(drawings.damping(read["damping"]))
    return Section("agreement", "Do the methods agree?", text, drawn, shown)


def _variance(experiment: Experiment, read: dict) -> Section:
    text = (
        "One score of one run and one checkpoint varies. Part of it all checkpoints of a run share "
        "(seed), part all runs share at an epoch (epoch), and the rest is of run and epoch alone. "
        "Averaging over checkpoints helps against the last part only.",
    )
    drawn = [drawings.variance(experiment, read["variance"])]
    return Section("variance", "Where does the variance come from?", text, drawn)


def _by_label(scores: Scores) -> Section:
    """Heat maps of mean scores by the labels of the pair."""
    text = (
        "Mean scores of all pairs with these two labels, as multiples of the method's largest one. "
        "Blue: images with this label help; orange: they harm.",
    )
    shown = [tables.by_label(style.label(name), values) for name, values in scores.items()
             if statistics.is_labelled(values)]  # fmt: skip
    return Section("labels", "Which labels help which?", text, tables=shown)
