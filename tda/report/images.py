"""The page of an image experiment: its scores, predictions, tables and figures.

Tables are those of the scripts under ``analysis/``; what has not been made yet is said, with the
command that makes it.
"""

from pathlib import Path

import numpy as np
import xarray as xr

from tda import paths, statistics, store
from tda.analysis import comparable_scores, independent_predictions, methods
from tda.data import read_images
from tda.errors import UserError
from tda.experiments import METHODS, Experiment, helpful_sign
from tda.figures import style
from tda.figures.sources import made_by, read_table
from tda.report import drawings, tables
from tda.report.model import Examples, Method, Pictures, Predictions, Report, Section
from tda.report.words import CLASSES, METHOD_NOTES, TABLES

Scores = dict[str, xr.DataArray]


def report_of(experiment: Experiment) -> Report:
    """Everything that is known about an experiment.

    Raises:
        UserError: no method has two runs, or results do not belong together.
    """
    there, absent = _methods(experiment)
    datasets = comparable_scores(experiment, there)
    scores = {name: helpful_sign(name) * dataset["score"] for name, dataset in datasets.items()}
    first = datasets[there[0]]
    predictions = _predictions(experiment, first["test"])
    missing = [*absent, *_without_predictions(experiment, predictions), *_no_tables(experiment)]
    train, test = (examples(experiment, split, first) for split in ("train", "test"))
    return Report(
        name=experiment.name,
        title=style.title(experiment),
        facts=_facts(experiment, first),
        missing=missing,
        methods={name: _method(name, values) for name, values in scores.items()},
        train=train,
        test=test,
        kind="image",
        predictions=predictions,
        sections=_sections(experiment, scores),
    )


def _methods(experiment: Experiment) -> tuple[list[str], list[str]]:
    """Methods with two runs or more, and what to say about the others."""
    found = methods(experiment)
    counts = {name: _num_runs(paths.scores(experiment.name, name, "x").parent) for name in found}
    there = [name for name in found if counts[name] > 1]
    absent = [
        f"{style.label(name)} has scores of {counts.get(name, 0)} runs, two are needed: "
        f"{store.Command(experiment, name)}"
        for name in dict.fromkeys((*METHODS, *found))
        if name not in there
    ]
    if not there:
        raise UserError(
            f"{experiment.name} has no method with scores of two runs: run "
            f"`{store.Command(experiment, found[0])}`"
        )
    return there, absent


def _num_runs(folder: Path) -> int:
    return len(list(folder.glob("[!.]*.nc")))


def _method(name: str, scores: xr.DataArray) -> Method:
    base = style.base_method(name)
    note = METHOD_NOTES.get(base, "A score of an example; positive = helpful.")
    return Method(style.label(name), style.colour(name), note, scores)


def examples(experiment: Experiment, split: str, scores: xr.Dataset) -> Examples:
    """The images of one split that scores are about.

    Raises:
        UserError: their labels are not those that the scores were made with.
    """
    path = paths.images(experiment.task, split)
    images = read_images(path, scores[split].values)
    if not np.array_equal(images.label, scores[f"{split}_label"].values):
        raise UserError(
            f"{path} has other labels than the scores of {experiment.name}: restore the images "
            "that the scores were made with, or make the scores again"
        )
    names = _class_names(experiment)
    return Examples(images.index, [names[label] for label in images.label], Pictures(images.pixels))


def _class_names(experiment: Experiment) -> list[str]:
    return CLASSES.get(experiment.task.split("s", 1)[0], [str(digit) for digit in range(10)])


def _predictions(experiment: Experiment, tests: xr.DataArray) -> Predictions | None:
    """Mean probabilities over all runs and checkpoints; None: two runs have no predictions."""
    if _num_runs(paths.predictions(experiment.name, "x").parent) < 2:
        return None
    found = independent_predictions(experiment).sel(test=tests.values)
    logits = found["test_logit"].transpose("seed", "checkpoint", "test", "output").astype(float)
    probability_MK = softmax(logits.values).mean((0, 1))
    label_M, chosen_M = found["test_label"].values, probability_MK.argmax(1)
    occurring = sorted({*label_M.tolist(), *found["train_label"].values.tolist()})
    shown = [k for k in range(logits.sizes["output"]) if k in occurring or k in set(chosen_M)]
    names = _class_names(experiment)
    said = [
        f"{names[chosen]} (mean probability {probability:.2f})"
        for chosen, probability in zip(chosen_M, probability_MK.max(1), strict=True)
    ]
    classes = [names[k] for k in shown]
    return Predictions(said, chosen_M == label_M, classes, probability_MK[:, shown])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def _without_predictions(experiment: Experiment, predictions: Predictions | None) -> list[str]:
    command = store.Command(experiment, "predictions")
    return [] if predictions else [f"Predictions of two runs: {command}"]


def _no_tables(experiment: Experiment) -> list[str]:
    return [
        f"Table {name}: {made_by(experiment, name)}"
        for name in TABLES
        if not paths.table(experiment.name, name).exists()
    ]


def _facts(experiment: Experiment, scores: xr.Dataset) -> list[tuple[str, str]]:
    sizes, recipe = scores.sizes, experiment.recipe
    epochs = scores["checkpoint"].values
    facts = [
        ("models", f"{sizes['seed']} seeds × {sizes['checkpoint']} checkpoints"),
        ("pairs", f"{sizes['train']:,} training × {sizes['test']:,} test images"),
        ("training", f"{recipe.epochs} epochs, kept from {epochs.min()} to {epochs.max()}"),
    ]  # fmt: skip
    if paths.table(experiment.name, "accuracy").exists():
        accuracy = read_table(experiment, "accuracy").set_index("split")["accuracy"]
        facts.append(("accuracy", f"{accuracy['test']:.1%} test, {accuracy['train']:.1%} train"))
    return facts


def _sections(experiment: Experiment, scores: Scores) -> list[Section]:
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
