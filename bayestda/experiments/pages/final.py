"""Read the page of final-model-only attribution: rows, sentences or images of a task.

Training examples are those that were left out of further training. If there are several final
models, they are the independent runs, and orders of the data are averaged first. Of one final
model the orders of the data are the runs.
"""

import re
import shlex

import numpy as np
import xarray as xr

from bayestda.errors import UserError
from bayestda.experiments import paths, results
from bayestda.experiments.data import tables
from bayestda.experiments.figures import fimo
from bayestda.experiments.final_models import PROTOCOLS, FinalModels
from bayestda.experiments.final_results import (
    adjusted,
    check_same_models,
    command,
    methods,
    read_approximation,
    read_further,
    variants,
)
from bayestda.experiments.pages.final_examples import examples, predictions
from bayestda.experiments.pages.final_tables import made_by, sections
from bayestda.experiments.pages.readable import made_by_script, readable
from bayestda.experiments.pages.words import FINAL_TABLES
from bayestda.page.drawings import themed
from bayestda.page.model import Method, Pictures, Report, Rows, Texts

PREFIX = "fimo_"
DAMPING = 0.1  # of methods that have several: in every method's list
GOLD = {  # kinds of further training: label, colour
    "sgd": ("Further training, SGD", "#A6761D"),
    "adam": ("Further training, Adam", "#7B6BD6"),
    "adamw": ("Further training, AdamW", "#7B6BD6"),
    "sgd_delete": ("Further training, SGD, deleted", "#C9A25E"),
    "adam_delete": ("Further training, Adam, deleted", "#B8AEE8"),
    "adamw_delete": ("Further training, AdamW, deleted", "#B8AEE8"),
    "scratch": ("Training from scratch", "#7F7F7F"),
}
OTHER = "#737373"  # methods that the figures do not draw
KINDS = {Rows: "row", Texts: "sentence", Pictures: "image"}


def is_final(name: str) -> bool:
    """Whether an experiment's name is one of final-model-only attribution."""
    return name.startswith(PREFIX)


def with_results() -> list[str]:
    """Return the names that have further training, sorted."""
    folders = (paths.root() / "results").glob(f"{PREFIX}*/further")
    return sorted(folder.parent.name for folder in folders)


def report_of(name: str) -> Report:
    """Return everything that is known about the final models of a task.

    Raises:
        UserError: There are no results of that name, or they do not belong together.
    """
    models = models_of(name)
    further, gold, unfinished = _further(models)
    first = next(iter(further.values()))
    approximations, undefined = readable(
        methods(models), lambda method: _approximation(models, method, first)
    )
    train, test = examples(models, first)
    said, unsaid = readable(["predictions"], lambda _: predictions(models, first, test))
    drawn, unreadable = sections(models)
    return Report(
        name=name,
        title=f"Final-model-only · {models.task.replace('_', ' ')}",
        facts=_facts(first),
        missing=[*_missing(models, further), *unfinished, *undefined, *unsaid, *unreadable],
        methods=gold | approximations,
        train=train,
        test=test,
        kind=KINDS[type(train.content)],
        predictions=said.get("predictions"),
        sections=drawn,
        made_by=made_by_script(),
        label="target" if isinstance(train.content, Rows) else "label",
    )


def _further(
    models: FinalModels,
) -> tuple[dict[str, xr.Dataset], dict[str, Method], list[str]]:
    """Return further training of every kind that is whole, its scores, and what to say of others.

    Raises:
        UserError: There is none, or two of them are not of the same final models.
    """

    def read(variant: str) -> tuple[xr.Dataset, Method]:
        further = read_further(models, variant)
        return further, _gold(variant, further)

    found, unfinished = readable(variants(models), read)
    if not found:
        none = f"{models.name} has no further training that is read: run `{command(models)}`"
        raise UserError("\nerror: ".join(unfinished) or none)
    further = {variant: dataset for variant, (dataset, _) in found.items()}
    first, *others = further.values()
    for other in others:
        check_same_models(first, other)
    gold = {f"further_{variant}": method for variant, (_, method) in found.items()}
    return further, gold, unfinished


def models_of(name: str) -> FinalModels:
    """Return the final models of a folder's name, by the flags that its results were made with.

    Raises:
        UserError: It has no further training.
    """
    if not re.fullmatch(rf"{PREFIX}[\w.-]{{1,100}}", name):
        raise UserError(f"{name!r} is no experiment: names are fimo_<task>, as fimo_energy")
    found = sorted((paths.results(name) / "further").glob("*/[!.]*.nc"))
    if not found:
        task = next((task for task in PROTOCOLS if name == f"{PREFIX}{task}"), "energy")
        raise UserError(
            f"{name} has no further training yet: run `{command(FinalModels(task))}`, or name "
            "another experiment"
        )
    any_command = command(FinalModels("energy"))
    words = shlex.split(str(results.open_scores(found[0], any_command).attrs["flags"]))
    given = dict(zip(words, words[1:], strict=False))
    return FinalModels(given["--task"], given.get("--model", ""), "--lora" in words)


def _gold(variant: str, further: xr.Dataset) -> Method:
    """Return the scores of one kind of further training: how much higher the loss is without."""
    scores = _finite(adjusted(further, "full").isel(step=-1, drop=True), variant)
    note = (
        "By how much the test loss is higher if the example is left out, after "
        f"{_epochs(further)} of training."
    )
    label, colour = GOLD[variant]
    runs, seed, checkpoint = by_run(scores)
    return Method(label, colour, note, runs, seed, checkpoint)


def _epochs(further: xr.Dataset) -> str:
    count = float(further["epoch"].max())
    return f"{count:g} epoch{'' if count == 1 else 's'}"


def _finite(scores: xr.DataArray, name: str) -> xr.DataArray:
    """Return the scores.

    Raises:
        UserError: One of them is not a finite number.
    """
    if not np.isfinite(scores.values).all():
        raise UserError(
            f"scores of {name} are not all finite (a diverged training run?): delete the files of "
            "the runs that diverged, or make them again"
        )
    return scores


def by_run(scores: xr.DataArray) -> tuple[xr.DataArray, str, str]:
    """Return scores of final models and orders as those of independent runs.

    Args:
        scores: Scores of dims (train_seed, seed, left_out, test).

    Returns:
        Scores of dims (seed, checkpoint, train, test); what a seed is; what a checkpoint is.
    """
    scores = scores.rename(left_out="train")
    if scores.sizes["train_seed"] > 1:
        renamed = scores.rename(seed="checkpoint").rename(train_seed="seed")
        return _ordered(renamed), "final model", "order"
    renamed = scores.rename(train_seed="checkpoint")
    return _ordered(renamed), "order", "final model"


def _approximation(models: FinalModels, name: str, further: xr.Dataset) -> Method:
    """Return the scores of a method at one damping, or at the last epoch.

    Raises:
        UserError: A final model has none, or they are not all finite.
    """
    scores, at = read_approximation(models, name, further), ""
    if "damping" in scores.dims:
        scores, at = scores.sel(damping=DAMPING, drop=True), f", λ = {DAMPING:g}"
    if "step" in scores.dims:
        scores, at = scores.isel(step=-1, drop=True), ", last epoch"
    label, colour = _named(name)
    if not np.isfinite(scores.values).all():
        raise UserError(f"{label}{at}: its scores are not all finite numbers")
    note = f"What {label} says about leaving out the example{at}, from the final model alone."
    scores = scores.rename(left_out="train", train_seed="seed").expand_dims(checkpoint=["all"])
    return Method(f"{label}{at}", colour, note, _ordered(scores), "final model", "score")


def _named(name: str) -> tuple[str, str]:
    """Return a method in words, without how its damping is chosen, and its colour in figures."""
    label, colour, _ = fimo.LINES.get(name, (fimo.OTHERS.get(name, name), OTHER, ""))
    return label.removesuffix(", best λ"), themed(colour)


def _ordered(scores: xr.DataArray) -> xr.DataArray:
    return scores.transpose("seed", "checkpoint", "train", "test").astype(np.float64)


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
    if models.rows in tables.TABLES:
        lines += [
            f"Table {name}: {made_by(models, name)}"
            for name in FINAL_TABLES
            if not paths.table(models.name, name).exists()
        ]
    return lines
