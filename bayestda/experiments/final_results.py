"""Results of final-model-only attribution, as the analysis scripts read and write them."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from bayestda.errors import UserError
from bayestda.experiments import paths, results
from bayestda.experiments.final_models import PROTOCOLS, FinalModels
from bayestda.experiments.results import write_table
from bayestda.experiments.terminal import print_paths, run_main

__all__ = [
    "ADJUSTMENTS", "GOLD", "adjusted", "check_alike", "check_same_models", "command", "main",
    "methods", "read_approximation", "read_further", "variants", "write_table",
]  # fmt: skip

GOLD = (  # variants of further_train.py
    "sgd", "adam", "adamw", "sgd_delete", "adam_delete", "adamw_delete", "scratch",
)  # fmt: skip
ORIGIN = ("width", "pretrained", "data_hash", "train_seed", "final")
"""Settings that identify a final model, beside :meth:`FinalModels.settings`."""
ADJUSTMENTS = ("full", "mean", "centred")


def variants(models: FinalModels) -> list[str]:
    """Return the kinds of further training that have results."""
    return [name for name in GOLD if any(_folder(models, name).glob("[!.]*.nc"))]


def command(models: FinalModels, variant: str = "sgd") -> str:
    """Return the command that makes a variant of the gold standard."""
    further, _, deleted = variant.partition("_")
    flags = {"sgd": "", "scratch": " --start scratch"}
    own = flags.get(further, f" --optimizer {further}") + (" --leave_out delete" if deleted else "")
    return f"python {models.script('further_train')} {models.flags}{own}"


def main(
    doc: str | None,
    analyse: Callable[[FinalModels], Iterable[Path]],
    has_results: Callable[[FinalModels], object] = variants,
    make: Callable[[FinalModels], str] = command,
) -> None:
    """Run ``analyse`` for each task that the command line asks for, print what it wrote.

    Args:
        doc: The script's docstring, shown by ``--help``.
        analyse: A function from final models to the files written.
        has_results: A function that says whether a task has what is analysed.
        make: A function that returns the command that makes it.

    Raises:
        SystemExit: 2 after a line on stderr for an error of the user, 130 when interrupted.
    """

    def add_flags(parser: ArgumentParser) -> None:
        parser.add_argument(
            "--task", nargs="+", choices=tuple(PROTOCOLS), help="default: all that have results"
        )

    def analyse_all(flags: Namespace) -> None:
        there = [task for task in PROTOCOLS if has_results(FinalModels(task))]
        tasks = flags.task or there
        missing = [task for task in tasks or ["energy"] if task not in there]
        if missing:
            raise UserError(
                f"{missing[0]} has no results for this yet: run `{make(FinalModels(missing[0]))}`"
            )
        print_paths(path for task in tasks for path in analyse(FinalModels(task)))

    run_main(doc, analyse_all, add_flags)


def read_further(
    models: FinalModels, variant: str = "sgd", *, most_orders: bool = False
) -> xr.Dataset:
    """Read measurements of all final models in the orders of the data that all of them have.

    Those of step 0, where nothing is trained yet and all gold scores are 0, are left out.

    Args:
        models, variant: of which task, which kind of further training.
        most_orders: only of the final models that have the most orders.

    Returns:
        ``loss`` (train_seed, seed, step, left_out, test) and ``full`` (without left_out); the
        attribute ``finals`` has by training seed a file and what says of which final model.

    Raises:
        UserError: there are none, or no order that all final models have, or they are of different
            data, recipes or, for one training seed, final models.
    """
    made_by = command(models, variant)
    found: dict[int, dict[int, Path]] = {}
    for file in sorted(_folder(models, variant).glob("[!.]*.nc")):
        train_seed, _, seed = file.stem.partition("x")
        found.setdefault(int(train_seed), {})[int(seed)] = file
    if most_orders:
        most = max(map(len, found.values()), default=0)
        found = {train_seed: own for train_seed, own in found.items() if len(own) == most}
    common = sorted(set.intersection(*(set(own) for own in found.values()))) if found else []
    if not common:
        raise UserError(
            f"{_folder(models, variant)} has no order of the data that all final models have: "
            f"run `{made_by}`"
        )
    further = _joined(models, [[own[seed] for seed in common] for own in found.values()], made_by)
    return further.sel(step=further["step"] > 0)


def _joined(models: FinalModels, by_model: list[list[Path]], made_by: str) -> xr.Dataset:
    """Join files of final models in some orders, with the attributes of :func:`read_further`."""
    datasets, made, finals = [], {}, {}
    for first, *others in by_model:
        opened = {file: results.open_scores(file, made_by) for file in (first, *others)}
        settings = {file: results.settings_of(dataset) for file, dataset in opened.items()}
        check_alike(settings, made_by, "order")
        datasets.append(xr.concat(list(opened.values()), dim="seed", join="exact"))
        made[first] = settings[first]
        finals[int(datasets[-1]["train_seed"].item())] = first, _origin(models, settings[first])
    check_alike(made, made_by, "order", "train_seed", "final")
    further = xr.concat(datasets, dim="train_seed", join="exact")
    return further.assign_attrs(finals=finals, command=made_by)


def check_same_models(one: xr.Dataset, other: xr.Dataset) -> None:
    """Refuse further training of two kinds that is of other data or final models.

    Args:
        one, other: from :func:`read_further`; training from scratch is of no final model.

    Raises:
        UserError: as :func:`check_alike`.
    """
    for train_seed in one.attrs["finals"].keys() & other.attrs["finals"].keys():
        pair = dict(further.attrs["finals"][train_seed] for further in (one, other))
        own = () if all(origin["final"] for origin in pair.values()) else ("final",)
        check_alike(pair, f"{one.attrs['command']}` or `{other.attrs['command']}", *own)


def check_alike(settings: Mapping[Path, dict], made_by: str, *own: str) -> None:
    """Refuse files that do not belong together.

    Args:
        settings: of each file.
        made_by: the command that makes them.
        own: settings in which they may differ.

    Raises:
        UserError: any other setting differs.
    """
    first, *others = settings
    for file in others:
        found, wanted = (
            {key: value for key, value in settings[path].items() if key not in own}
            for path in (file, first)
        )
        differing = results.differences(found, wanted, "the first", "the second")
        if differing:
            raise UserError(
                f"{file} and {first} do not belong together ({differing}): delete the older one "
                f"and run `{made_by}` again"
            )


def _origin(models: FinalModels, settings: dict) -> dict:
    return {key: settings.get(key) for key in (*models.settings(), *ORIGIN)}


def read_approximation(models: FinalModels, method: str, further: xr.Dataset) -> xr.DataArray:
    """Read scores of one method (train_seed, ..., left_out, test) for final models of a gold one.

    Args:
        models, method: of which task, which method.
        further: from :func:`read_further`.

    Raises:
        UserError: a final model or an example of the gold standard has none, or they are of another
            final model.
    """
    made_by = f"python {models.script('approximate')} {models.flags}"
    scores = []
    for train_seed in further["train_seed"].values:
        run = models.finals([int(train_seed)])[0].name
        file = paths.approximation(models.name, method, run)
        found = results.open_scores(file, f"{made_by} --train_seed {train_seed}")
        gold_file, gold = further.attrs["finals"][int(train_seed)]
        own = () if gold["final"] else ("final",)  # training from scratch is of none
        pair = {gold_file: gold, file: _origin(models, results.settings_of(found))}
        check_alike(pair, f"{made_by}` or `{further.attrs['command']}", *own)
        scores.append(found["score"])
    joined = xr.concat(scores, dim="train_seed", join="exact")
    for dim in ("left_out", "test"):
        if not np.array_equal(joined[dim], further[dim]):
            raise UserError(
                f"scores of {method} and further training of {models.name} are about different "
                f"examples ({dim}): delete the older results and run `{made_by}` again"
            )
    return joined


def methods(models: FinalModels) -> list[str]:
    """Return the methods that have a folder: one with deleted scores is missed, not left out."""
    folder = paths.approximation(models.name, "x", "x").parent.parent
    return sorted(found.name for found in folder.glob("[!.]*") if found.is_dir())


def adjusted(further: xr.Dataset, adjustment: str) -> xr.DataArray:
    """Return gold scores (train_seed, seed, step, left_out, test): positive = helpful.

    ``full``: less training with all of D (equation 17 of Wei et al. 2025); ``mean`` and
    ``centred``: less the mean over left-out examples (equation 13).
    """
    if adjustment == "full":
        return further["loss"] - further["full"]
    return further["loss"] - further["loss"].mean("left_out")


def _folder(models: FinalModels, variant: str) -> Path:
    return paths.further(models.name, variant, "x").parent
