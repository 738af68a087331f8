"""The page of final-model-only attribution: rows, sentences or images of a task.

Training examples are those that were left out of further training. Runs that are independent of
each other are final models, where there are several (orders of the data are averaged first), else
orders of the data of the one final model that is there.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from tda import paths, sentences, store, tabular
from tda.data import read_images
from tda.errors import UserError
from tda.figures import fimo
from tda.final_model import PROTOCOLS, FinalModels
from tda.final_results import adjusted, command, methods, read_approximation, read_further, variants
from tda.report import drawings, tables
from tda.report.images import softmax
from tda.report.model import (
    Drawing,
    Examples,
    Method,
    Pictures,
    Predictions,
    Report,
    Rows,
    Section,
    Texts,
)
from tda.report.words import CLASSES, FEATURES, FINAL_TABLES, UNITS

PREFIX = "fimo_"
DAMPING = 0.1  # of methods that have several: in every method's list
GOLD = {  # kinds of further training: label, colour
    "sgd": ("Further training, SGD", "#0072B2"),
    "adam": ("Further training, Adam", "#332288"),
    "adamw": ("Further training, AdamW", "#332288"),
    "sgd_delete": ("Further training, SGD, deleted", "#88CCEE"),
    "scratch": ("Training from scratch", "#111111"),
}
COLOURS = ("#009E73", "#CC79A7", "#D55E00", "#E69F00", "#56B4E9", "#8C6BB1", "#7F7F7F")
KINDS = {Rows: "row", Texts: "sentence", Pictures: "image"}


def is_final(name: str) -> bool:
    """Whether an experiment's name is one of final-model-only attribution."""
    return name.startswith(PREFIX)


def with_results() -> list[str]:
    """Names that have further training, sorted."""
    folders = (paths.root() / "results").glob(f"{PREFIX}*/further")
    return sorted(folder.parent.name for folder in folders)


def report_of(name: str) -> Report:
    """Everything that is known about the final models of a task.

    Raises:
        UserError: there are no results of that name, or they do not belong together.
    """
    models = models_of(name)
    further = {variant: read_further(models, variant) for variant in variants(models)}
    first = next(iter(further.values()))
    shown = _gold(further) | _approximations(models, first)
    train, test = _examples(models, first)
    return Report(
        name=name,
        title=f"Final-model-only · {models.task.replace('_', ' ')}",
        facts=_facts(first),
        missing=_missing(models, further),
        methods=shown,
        train=train,
        test=test,
        kind=KINDS[type(train.content)],
        predictions=_predictions(models, first, test),
        sections=_sections(models),
    )


def models_of(name: str) -> FinalModels:
    """The final models of a folder's name, by the flags that its results were made with.

    Raises:
        UserError: it has no further training.
    """
    found = sorted((paths.results(name) / "further").glob("*/[!.]*.nc"))
    if not found:
        task = next((task for task in PROTOCOLS if name == f"{PREFIX}{task}"), "energy")
        raise UserError(
            f"{name} has no further training yet: run `{command(FinalModels(task))}`, or name "
            "another experiment"
        )
    made_by = command(FinalModels("energy"))
    words = shlex.split(str(store.open_scores(found[0], made_by).attrs["flags"]))
    flags = dict(zip(words[::2], words[1::2], strict=False))
    source = words[words.index("--model") + 1] if "--model" in words else ""
    return FinalModels(flags["--task"], source, "--lora" in words)


def _gold(further: dict[str, xr.Dataset]) -> dict[str, Method]:
    """Further training of every kind: by how much the loss is higher without the example."""
    found = {}
    for variant, dataset in further.items():
        scores = _finite(adjusted(dataset, "full").isel(step=-1, drop=True), variant)
        note = (
            "By how much the test loss is higher if the example is left out, after "
            f"{_epochs(dataset)} of training."
        )
        found[f"further_{variant}"] = Method(*GOLD[variant], note, *by_run(scores))
    return found


def _epochs(further: xr.Dataset) -> str:
    count = float(further["epoch"].max())
    return f"{count:g} epoch{'' if count == 1 else 's'}"


def _finite(scores: xr.DataArray, name: str) -> xr.DataArray:
    """The scores.

    Raises:
        UserError: one of them is not a finite number.
    """
    if not np.isfinite(scores.values).all():
        raise UserError(
            f"scores of {name} are not all finite (a diverged training run?): delete the files of "
            "the runs that diverged, or make them again"
        )
    return scores


def by_run(scores: xr.DataArray) -> tuple[xr.DataArray, str, str]:
    """Scores of final models and orders, as those of independent runs.

    Args:
        scores: dims (train_seed, seed, left_out, test).

    Returns:
        Scores of dims (seed, checkpoint, train, test); what a seed is; what a checkpoint is.
    """
    scores = scores.rename(left_out="train")
    if scores.sizes["train_seed"] > 1:
        renamed = scores.rename(seed="checkpoint").rename(train_seed="seed")
        return _ordered(renamed), "final model", "order"
    renamed = scores.rename(train_seed="checkpoint")
    return _ordered(renamed), "order", "final model"


def _approximations(models: FinalModels, further: xr.Dataset) -> dict[str, Method]:
    """Scores of every method, at one damping, or at the last epoch."""
    found = {}
    for place, name in enumerate(methods(models)):
        scores, at = _finite(read_approximation(models, name, further), name), ""
        if "damping" in scores.dims:
            scores, at = scores.sel(damping=DAMPING, drop=True), f", λ = {DAMPING:g}"
        if "step" in scores.dims:
            scores, at = scores.isel(step=-1, drop=True), ", last epoch"
        label = fimo.LINES[name][0].removesuffix(", best λ") if name in fimo.LINES else name
        note = f"What {label} says about leaving out the example{at}, from the final model alone."
        scores = scores.rename(left_out="train", train_seed="seed").expand_dims(checkpoint=["all"])
        colour = COLOURS[place % len(COLOURS)]
        found[name] = Method(f"{label}{at}", colour, note, _ordered(scores), "final model", "score")
    return found


def _ordered(scores: xr.DataArray) -> xr.DataArray:
    return scores.transpose("seed", "checkpoint", "train", "test").astype(np.float64)


def _examples(models: FinalModels, further: xr.Dataset) -> tuple[Examples, Examples]:
    numbers = further["left_out"].values, further["test"].values
    task = models.task.split("_", 1)[0]
    if models.task in tabular.TABLES:
        train, test = (_rows(models.task, own) for own in numbers)
        return train, test
    if task == "sst2":
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
    """Rows of the file, without the target, whose value is the label."""
    table, rows = tabular.TABLES[task], tabular.read_rows(task).loc[numbers]
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


def _predictions(models: FinalModels, further: xr.Dataset, test: Examples) -> Predictions | None:
    """What the final models say, in readable units; None: one of them has none stored."""
    made_by = f"python {models.script('train')} {models.flags}"
    runs = models.finals([int(seed) for seed in further["train_seed"].values])
    files = [paths.predictions(models.name, run.name) for run in runs]
    if not all(file.exists() for file in files):
        return None
    outputs = [
        store.open_scores(file, made_by)["test_output"].sel(test=test.index) for file in files
    ]
    output_SMK = xr.concat(outputs, "train_seed").transpose("train_seed", "test", "output").values
    if models.task in tabular.TABLES and tabular.TABLES[models.task].regression:
        return _numbers(models.task, output_SMK[..., 0].astype(float))
    probability_MK = softmax(output_SMK.astype(float)).mean(0)
    names, chosen_M = CLASSES[models.task.split("_", 1)[0]], probability_MK.argmax(1)
    said = [
        f"{names[k]} (probability {p:.2f})"
        for k, p in zip(chosen_M, probability_MK.max(1), strict=True)
    ]
    right = np.array([names[k] == label for k, label in zip(chosen_M, test.label, strict=True)])
    return Predictions(said, right, names, probability_MK)


def _numbers(task: str, output_SM: np.ndarray) -> Predictions:
    """Predictions of a regression, in the units of the file."""
    table, rows = tabular.TABLES[task], tabular.read_rows(task)
    train, _ = tabular.split_rows(len(rows), table.num_test, table.num_train)
    mean, std = tabular.moments(rows[table.target].to_numpy(float)[train])
    value_SM = output_SM * std + mean
    unit = UNITS.get(task, "")
    said = [f"{value:.4g} {unit}".strip() for value in value_SM.mean(0)]
    if len(value_SM) > 1:
        ends = zip(said, value_SM.min(0), value_SM.max(0), strict=True)
        said = [f"{text} ({low:.4g} to {high:.4g} by model)" for text, low, high in ends]
    return Predictions(said, None, [], np.zeros((value_SM.shape[1], 0)))


def _facts(further: xr.Dataset) -> list[tuple[str, str]]:
    sizes = further.sizes
    return [
        ("final models", f"{sizes['train_seed']}"),
        ("orders of further training", f"{sizes['seed']}"),
        ("pairs", f"{sizes['left_out']:,} left-out × {sizes['test']:,} test examples"),
        ("further training", _epochs(further)),
    ]


def _missing(models: FinalModels, further: dict[str, xr.Dataset]) -> list[str]:
    lines = []
    seeds = next(iter(further.values())).sizes["train_seed"]
    if seeds < 2:
        lines.append(
            "There is one final model, so that methods that use nothing else have no interval and "
            f"no test: {command(models)}"
        )
    if not methods(models):
        lines.append(f"Approximations: python {models.script('approximate')} {models.flags}")
    if models.task in tabular.TABLES:
        lines += [
            f"Table {name}: python analysis/fimo_{name}.py {models.flags}"
            for name in FINAL_TABLES
            if not paths.table(models.name, name).exists()
        ]
    return lines


def _sections(models: FinalModels) -> list[Section]:
    """Figures of agreement, and all tables that there are."""
    there = [name for name in FINAL_TABLES if paths.table(models.name, name).exists()]
    read = {name: pd.read_csv(paths.table(models.name, name)) for name in there}
    text = (
        "Further training from the given model with all data, and without each example; methods "
        "approximate it from the final model alone. All scores: positive = the example helps.",
    )
    drawn = list(_agreement(read["agreement"])) if "agreement" in read else []
    shown = [Section("agreement", "Who approximates further training?", text, drawn)]
    shown.append(Section("numbers", "All numbers", tables=tables.folded(read, FINAL_TABLES)))
    return [section for section in shown if section.drawings or section.tables]


def _agreement(table: pd.DataFrame) -> Iterator[Drawing]:
    chosen = table[(table["adjustment"] == "full") & (table["choice"] != "all")]
    chosen = chosen[(chosen["metric"] == "cosine") & (chosen["variant"] != "scratch")]
    caption = (
        "Cosine over left-out examples, mean over test points and final models; bands: standard "
        "error over test points. Best λ: chosen at each epoch by looking."
    )
    for variant, own in chosen.groupby("variant"):
        title = f"Agreement with further training, {variant}"
        svg = drawings.inline_svg(fimo.agreement(own, "", "cosine"), f"{title}. {caption}")
        yield Drawing(title, svg, caption, wide=True)
