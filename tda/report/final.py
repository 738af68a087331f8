"""The page of final-model-only attribution: rows, sentences or images of a task.

Training examples are those that were left out of further training. Runs that are independent of
each other are final models, where there are several (orders of the data are averaged first), else
orders of the data of the one final model that is there.
"""

import re
import shlex
from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr

from tda import paths, store, tabular
from tda.errors import UserError
from tda.figures import fimo
from tda.final_model import PROTOCOLS, FinalModels
from tda.final_results import (
    adjusted,
    check_same_models,
    command,
    methods,
    read_approximation,
    read_further,
    variants,
)
from tda.report import drawings, tables
from tda.report.final_examples import examples, predictions
from tda.report.model import (
    Drawing,
    Method,
    Pictures,
    Report,
    Rows,
    Section,
    Texts,
)
from tda.report.words import FINAL_TABLES

PREFIX = "fimo_"
DAMPING = 0.1  # of methods that have several: in every method's list
GOLD = {  # kinds of further training: label, colour
    "sgd": ("Further training, SGD", "#0072B2"),
    "adam": ("Further training, Adam", "#7B6BD6"),
    "adamw": ("Further training, AdamW", "#7B6BD6"),
    "sgd_delete": ("Further training, SGD, deleted", "#88CCEE"),
    "adam_delete": ("Further training, Adam, deleted", "#B8AEE8"),
    "adamw_delete": ("Further training, AdamW, deleted", "#B8AEE8"),
    "scratch": ("Training from scratch", "#7F7F7F"),
}
COLOURS = ("#009E73", "#CC79A7", "#D55E00", "#E69F00", "#56B4E9")
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
    if not further:
        raise UserError(f"{name} has no further training that is read: run `{command(models)}`")
    first, *others = further.values()
    for other in others:
        check_same_models(first, other)
    approximations, undefined = _approximations(models, first)
    shown = _gold(further) | approximations
    train, test = examples(models, first)
    return Report(
        name=name,
        title=f"Final-model-only · {models.task.replace('_', ' ')}",
        facts=_facts(first),
        missing=[*_missing(models, further), *undefined],
        methods=shown,
        train=train,
        test=test,
        kind=KINDS[type(train.content)],
        predictions=predictions(models, first, test),
        sections=_sections(models),
    )


def models_of(name: str) -> FinalModels:
    """The final models of a folder's name, by the flags that its results were made with.

    Raises:
        UserError: it has no further training.
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
    made_by = command(FinalModels("energy"))
    words = shlex.split(str(store.open_scores(found[0], made_by).attrs["flags"]))
    given = dict(zip(words, words[1:], strict=False))
    return FinalModels(given["--task"], given.get("--model", ""), "--lora" in words)


def _gold(further: dict[str, xr.Dataset]) -> dict[str, Method]:
    """Further training of every kind: by how much the loss is higher without the example."""
    found = {}
    for variant, dataset in further.items():
        scores = _finite(adjusted(dataset, "full").isel(step=-1, drop=True), variant)
        note = (
            "By how much the test loss is higher if the example is left out, after "
            f"{_epochs(dataset)} of training."
        )
        label, colour = GOLD[variant]
        runs, seed, checkpoint = by_run(scores)
        found[f"further_{variant}"] = Method(label, colour, note, runs, seed, checkpoint)
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


def _approximations(
    models: FinalModels, further: xr.Dataset
) -> tuple[dict[str, Method], list[str]]:
    """Scores of every method, at one damping, or at the last epoch; and what is not defined."""
    found, undefined = {}, []
    for place, name in enumerate(methods(models)):
        scores, at = read_approximation(models, name, further), ""
        if "damping" in scores.dims:
            scores, at = scores.sel(damping=DAMPING, drop=True), f", λ = {DAMPING:g}"
        if "step" in scores.dims:
            scores, at = scores.isel(step=-1, drop=True), ", last epoch"
        label = _label(name)
        if not np.isfinite(scores.values).all():
            undefined.append(f"{label}{at}: its scores are not all finite numbers")
            continue
        note = f"What {label} says about leaving out the example{at}, from the final model alone."
        scores = scores.rename(left_out="train", train_seed="seed").expand_dims(checkpoint=["all"])
        colour = COLOURS[place % len(COLOURS)]
        found[name] = Method(f"{label}{at}", colour, note, _ordered(scores), "final model", "score")
    return found, undefined


def _label(name: str) -> str:
    """A method in words, without how its damping is chosen elsewhere."""
    names = fimo.OTHERS | {method: label for method, (label, _, _) in fimo.LINES.items()}
    return names.get(name, name).removesuffix(", best λ")


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
    if models.rows in tabular.TABLES:
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
