"""Read the page of an image experiment: its scores, predictions, tables and figures.

The scripts under ``analysis/`` make the tables. The page lists what has not been made yet, with the
command that makes it.
"""

import numpy as np
import xarray as xr
from scipy.special import softmax

from bayestda.errors import UserError
from bayestda.experiments import paths, results
from bayestda.experiments.analysis import (
    check_comparable,
    independent_predictions,
    independent_scores,
    methods,
)
from bayestda.experiments.data.subsets import read_images
from bayestda.experiments.figures import names
from bayestda.experiments.figures.read_tables import made_by
from bayestda.experiments.grid import METHODS, Experiment
from bayestda.experiments.pages.readable import as_written, made_by_script, readable
from bayestda.experiments.pages.runs import runs, summary_of_other_runs
from bayestda.experiments.pages.sections import Piece, pieces, sections
from bayestda.experiments.pages.words import METHOD_NOTES, TABLES
from bayestda.experiments.tasks import task
from bayestda.page.model import Examples, Method, Pictures, Predictions, Report
from bayestda.plots import style


def report_of(experiment: Experiment) -> Report:
    """Return everything that is known about an experiment.

    Raises:
        UserError: No method has two runs that can be read, or results do not belong together.
    """
    datasets, absent = _scores(experiment)
    first, class_names = next(iter(datasets.values())), _class_names(experiment)
    predictions, not_said = _predictions(experiment, first["test"])
    read, unreadable = pieces(experiment)
    older = [piece.older for piece in read.values() if piece.older] + _older_summary(experiment)
    methods_shown = {name: _method(name, dataset) for name, dataset in datasets.items()}
    scores = {name: method.scores for name, method in methods_shown.items()}
    train, test = (examples(experiment, split, first) for split in ("train", "test"))
    return Report(
        name=experiment.name,
        title=names.title(experiment),
        facts=_facts(experiment, first, read),
        missing=[*absent, *not_said, *_no_tables(experiment), *unreadable, *older],
        methods=methods_shown,
        train=train,
        test=test,
        kind="image",
        predictions=predictions,
        sections=sections(experiment, scores, read, class_names),
        made_by=made_by_script(),
    )


def _scores(experiment: Experiment) -> tuple[dict[str, xr.Dataset], list[str]]:
    """Return scores of all methods that can be read, and what to say about the others."""
    there, absent = _methods(experiment)

    def read(name: str) -> xr.Dataset:
        return independent_scores(experiment, name)

    datasets, unreadable = readable(there, read)
    if not datasets:
        raise UserError("\nerror: ".join(unreadable))
    check_comparable(experiment, datasets)
    return datasets, [*absent, *unreadable]


def _methods(experiment: Experiment) -> tuple[list[str], list[str]]:
    """Return methods with two runs or more, and what to say about the others."""
    found = methods(experiment)
    counts = {name: len(runs(experiment, name)) for name in found}
    there = [name for name in found if counts[name] > 1]
    absent = [
        f"{style.label(name)} has scores of {counts.get(name, 0)} {_independent(experiment)}runs, "
        "two are needed: "
        f"{results.Command(experiment, name)}"
        for name in dict.fromkeys((*METHODS, *found))
        if name not in there
    ]
    if not there:
        raise UserError(
            f"{experiment.name} has no method with scores of two {_independent(experiment)}runs: "
            f"run `{results.Command(experiment, found[0])}`"
        )
    return there, absent


def _independent(experiment: Experiment) -> str:
    return "independent " if experiment.randomness == "crossed" else ""


def _method(name: str, dataset: xr.Dataset) -> Method:
    note = METHOD_NOTES.get(name, "A score of an example; positive = helpful.")
    if "damping" in dataset.coords:
        values = np.unique(dataset["damping"])
        note += f" Here λ = {', '.join(f'{value:g}' for value in values)}."
    return Method(style.label(name), style.colour(name), note, dataset["score"])


def examples(experiment: Experiment, split: str, scores: xr.Dataset) -> Examples:
    """Return the images of one split that scores are about.

    Raises:
        UserError: Their labels are not those that the scores were made with.
    """
    path = paths.images(experiment.task, split)
    images = read_images(path, scores[split].values)
    if not np.array_equal(images.label, scores[f"{split}_label"].values):
        raise UserError(
            f"{path} has other labels than the scores of {experiment.name}: restore the images "
            "that the scores were made with, or make the scores again"
        )
    class_names = _class_names(experiment)
    return Examples(
        images.index, [class_names[label] for label in images.label], Pictures(images.pixels)
    )


def _class_names(experiment: Experiment) -> list[str]:
    return task(experiment.task).output_names


def _predictions(
    experiment: Experiment, tests: xr.DataArray
) -> tuple[Predictions | None, list[str]]:
    """Return predictions of two runs or more, or None, and what to say instead."""
    command = results.Command(experiment, "predictions")
    if len(runs(experiment, "predictions")) < 2:
        return None, [f"Predictions of two runs: {command}"]
    folder = paths.predictions(experiment.name, "x").parent

    def read(_: str) -> Predictions:
        with as_written(folder, command):
            return predictions_of(experiment, tests)

    found, unreadable = readable(["predictions"], read)
    return found.get("predictions"), unreadable


def predictions_of(experiment: Experiment, tests: xr.DataArray) -> Predictions:
    """Return mean probabilities over all runs and checkpoints.

    Raises:
        UserError: Less than two runs have predictions, or one cannot be read.
        KeyError: They are of other test images.
    """
    found = independent_predictions(experiment).sel(test=tests.values)
    logits = found["test_logit"].transpose("seed", "checkpoint", "test", "output").astype(float)
    probability_MK = softmax(logits.values, axis=-1).mean((0, 1))
    label_M, chosen_M = found["test_label"].values, probability_MK.argmax(1)
    occurring = sorted({*label_M.tolist(), *found["train_label"].values.tolist()})
    shown = [k for k in range(logits.sizes["output"]) if k in occurring or k in set(chosen_M)]
    class_names = _class_names(experiment)
    said = [
        f"{class_names[chosen]} (mean probability {probability:.2f})"
        for chosen, probability in zip(chosen_M, probability_MK.max(1), strict=True)
    ]
    classes = [class_names[k] for k in shown]
    return Predictions(said, chosen_M == label_M, classes, probability_MK[:, shown])


def _no_tables(experiment: Experiment) -> list[str]:
    return [
        f"Table {name}: {made_by(experiment, name)}"
        for name in TABLES
        if not paths.table(experiment.name, name).exists()
    ]


def _older_summary(experiment: Experiment) -> list[str]:
    found = summary_of_other_runs(experiment, methods(experiment)[0])
    return [f"Summary {found}: {made_by(experiment, 'summary')}"] if found else []


def _facts(
    experiment: Experiment, scores: xr.Dataset, read: dict[str, Piece]
) -> list[tuple[str, str]]:
    sizes, recipe = scores.sizes, experiment.recipe
    epochs = scores["checkpoint"].values
    return [
        ("models", f"{sizes['seed']} seeds × {sizes['checkpoint']} checkpoints"),
        ("pairs", f"{sizes['train']:,} training × {sizes['test']:,} test images"),
        ("training", f"{recipe.epochs} epochs, kept from {epochs.min()} to {epochs.max()}"),
        *(fact for piece in read.values() for fact in piece.facts),
    ]
