"""The page of an image experiment: its scores, predictions, tables and figures.

Tables are those of the scripts under ``analysis/``; what has not been made yet is said, with the
command that makes it.
"""

from pathlib import Path

import numpy as np
import xarray as xr

from tda import paths, store
from tda.analysis import comparable_scores, independent_predictions, methods
from tda.data import read_images
from tda.errors import UserError
from tda.experiments import METHODS, Experiment, helpful_sign, task
from tda.figures import style
from tda.figures.sources import made_by, read_table
from tda.report.model import Examples, Method, Pictures, Predictions, Report, softmax
from tda.report.sections import sections
from tda.report.words import CLASSES, METHOD_NOTES, TABLES


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
        sections=sections(experiment, scores),
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
    name = task(experiment.task).name.removesuffix("full")
    return CLASSES.get(name, [str(digit) for digit in range(10)])


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
