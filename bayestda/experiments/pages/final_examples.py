"""Read examples of final-model-only attribution, and what final models say, in words."""

from pathlib import Path

import numpy as np
import xarray as xr
from scipy.special import softmax

from bayestda.experiments import paths, results
from bayestda.experiments.data import sentences, tables
from bayestda.experiments.data.subsets import read_images
from bayestda.experiments.final_models import FinalModels
from bayestda.experiments.pages.words import CLASSES, FEATURES, UNITS
from bayestda.page.model import Examples, Pictures, Predictions, Rows, Texts


def examples(models: FinalModels, further: xr.Dataset) -> tuple[Examples, Examples]:
    """Return left-out training examples, and test examples, of further training."""
    numbers = further["left_out"].values, further["test"].values
    if models.rows in tables.TABLES:
        train, test = (_rows(models.rows, own) for own in numbers)
        return train, test
    if models.rows == "sst2":
        train, test = (
            _sentences(split, own)
            for split, own in zip(("train", "validation"), numbers, strict=True)
        )
        return train, test
    whole = "cifar10full" if models.protocol.num_train is None else "cifar10"
    train, test = (
        _images(paths.images(whole, split), own)
        for split, own in zip(("train", "test"), numbers, strict=True)
    )
    return train, test


def _rows(task: str, numbers: np.ndarray) -> Examples:
    """Return rows of the file without the target, whose value is the label."""
    table, rows = tables.TABLES[task], tables.read_rows(task).loc[numbers]
    target, features = rows[table.target], rows.drop(columns=[table.target, *table.dropped])
    if table.regression:
        label = [f"{value:g} {UNITS.get(task, '')}".strip() for value in target]
    else:
        label = [CLASSES[task][int(value)] for value in target]
    return Examples(numbers, label, Rows(features.rename(columns=FEATURES.get(task, {}))))


def _sentences(split: str, numbers: np.ndarray) -> Examples:
    rows = sentences.read(paths.sentences(split)).loc[numbers]
    label = [CLASSES["sst2"][int(value)] for value in rows["label"]]
    return Examples(numbers, label, Texts(list(rows["sentence"])))


def _images(path: Path, numbers: np.ndarray) -> Examples:
    images = read_images(path, numbers)
    label = [CLASSES["cifar10"][value] for value in images.label]
    return Examples(numbers, label, Pictures(images.pixels))


def predictions(models: FinalModels, further: xr.Dataset, test: Examples) -> Predictions | None:
    """Return what the final models say, in readable units; None: one of them has none stored."""
    made_by = f"python {models.script('train')} {models.flags}"
    runs = models.finals([int(seed) for seed in further["train_seed"].values])
    files = [paths.predictions(models.name, run.name) for run in runs]
    if not all(file.exists() for file in files):
        return None
    outputs = [
        results.open_scores(file, made_by)["test_output"].sel(test=test.index) for file in files
    ]
    output_SMK = xr.concat(outputs, "train_seed").transpose("train_seed", "test", "output").values
    if models.rows in tables.TABLES and tables.TABLES[models.rows].regression:
        return _numbers(models.rows, output_SMK[..., 0].astype(float))
    probability_MK = softmax(output_SMK.astype(float), axis=-1).mean(0)
    names, chosen_M = CLASSES[models.rows], probability_MK.argmax(1)
    said = [
        f"{names[k]} (probability {p:.2f})"
        for k, p in zip(chosen_M, probability_MK.max(1), strict=True)
    ]
    right = np.array([names[k] == label for k, label in zip(chosen_M, test.label, strict=True)])
    return Predictions(said, right, names, probability_MK)


def _numbers(task: str, output_SM: np.ndarray) -> Predictions:
    """Return predictions of a regression in the units of the file."""
    table, rows = tables.TABLES[task], tables.read_rows(task)
    train, _ = tables.split_rows(len(rows), table.num_test, table.num_train)
    mean, std = tables.moments(rows[table.target].to_numpy(float)[train])
    value_SM = output_SM * std + mean
    unit = UNITS.get(task, "")
    said = [f"{value:.4g} {unit}".strip() for value in value_SM.mean(0)]
    if len(value_SM) > 1:
        ends = zip(said, value_SM.min(0), value_SM.max(0), strict=True)
        said = [f"{text} ({low:.4g} to {high:.4g} by model)" for text, low, high in ends]
    return Predictions(said, None, [], np.zeros((value_SM.shape[1], 0)))
