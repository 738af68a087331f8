"""Shared parts of the scripts under ``analysis/``: flags, errors, and the choice of runs."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr

from bayestda.errors import UserError
from bayestda.experiments import paths, results
from bayestda.experiments.grid import ORIGIN, Experiment
from bayestda.experiments.terminal import print_paths, run_main
from bayestda.scores.estimators import place_of


def main(
    doc: str | None,
    analyse: Callable[..., Iterable[Path]],
    add_flags: Callable[[ArgumentParser], None] | None = None,
) -> None:
    """Run ``analyse`` for each experiment that the command line asks for, and print what it wrote.

    An experiment that cannot be analysed does not keep the others from it.

    Args:
        doc: The script's docstring, shown by ``--help``.
        analyse: Function from an experiment (and the script's own flags, by name) to the files
            written.
        add_flags: Function that adds the script's own flags.

    Raises:
        SystemExit: 2 after a line on stderr for an error of the user, 130 when interrupted.
    """

    def analyse_each(experiments: list[Experiment], **flags: object) -> Iterator[Path]:
        return each(partial(analyse, **flags), experiments)

    main_all(doc, analyse_each, add_flags)


def main_all(
    doc: str | None,
    analyse: Callable[..., Iterable[Path]],
    add_flags: Callable[[ArgumentParser], None] | None = None,
) -> None:
    """Run ``analyse`` once, for all experiments that the command line asks for.

    Args:
        doc: The script's docstring, shown by ``--help``.
        analyse: Function from experiments (and the script's own flags, by name) to files written,
            which are printed one by one.
        add_flags: Function that adds the script's own flags.

    Raises:
        SystemExit: As :func:`main`.
    """

    def add_all_flags(parser: ArgumentParser) -> None:
        parser.add_argument(
            "--experiment",
            nargs="+",
            metavar="NAME",
            help="<model>_<task>_<n>pc[_<randomness>]; default: all that exist under results/",
        )
        if add_flags:
            add_flags(parser)

    def work(flags: Namespace) -> None:
        own = {name: value for name, value in vars(flags).items() if name != "experiment"}
        print_paths(analyse(_experiments(flags.experiment), **own))

    run_main(doc, work, add_all_flags)


def each(analyse: Callable[[Any], Iterable[Path]], subjects: Iterable[Any]) -> Iterator[Path]:
    """Yield the files that are written for each subject; one's error does not stop the others.

    Args:
        analyse: Function from an experiment (or final models, or a name) to the files written.
        subjects: What to analyse, in turn.

    Raises:
        UserError: At the end, with all errors of the subjects, one a line.
    """
    errors = []
    for subject in subjects:
        try:
            yield from analyse(subject)
        except UserError as error:
            errors.append(str(error))
    if errors:
        raise UserError("\nerror: ".join(errors))


def independent_scores(experiment: Experiment, method: str) -> xr.Dataset:
    """Read the scores of runs that are independent of each other, as a test over seeds needs.

    These are all runs, except in the crossed design. There they are the runs whose initialisation
    and order are of one seed (the grid's diagonal). Any others share one of the two with a run.

    Raises:
        UserError: Less than two such runs have scores, or a score is not a finite number.
    """
    return _independent(experiment, finite_scores(experiment, method), method)


def comparable_scores(experiment: Experiment, names: Iterable[str]) -> dict[str, xr.Dataset]:
    """Read independent scores of several methods that are about the same models and images.

    Raises:
        UserError: A method has none, or was computed with other data, another training or other
            checkpoints.
    """
    datasets = {name: independent_scores(experiment, name) for name in names}
    check_comparable(experiment, datasets)
    return datasets


def check_comparable(experiment: Experiment, datasets: Mapping[str, xr.Dataset]) -> None:
    """Refuse scores of several methods that are not about the same models and images.

    Args:
        experiment: Owner of the scores.
        datasets: Scores of :func:`independent_scores`, by method.

    Raises:
        UserError: A method was computed with other data, another training or other checkpoints.
    """
    shared = (*experiment.settings(), *ORIGIN)
    found = {
        name: {key: results.settings_of(dataset).get(key) for key in shared}
        for name, dataset in datasets.items()
    }
    first = next(iter(found), "")
    for name, settings in found.items():
        differing = results.differences(settings, found[first], name, first)
        if differing:
            raise UserError(
                f"scores of {name} and {first} in {paths.results(experiment.name)} are of other "
                f"data or another training ({differing}): delete the older ones and run their "
                "stages again"
            )
    check_same_checkpoints(experiment, datasets)


def check_same_checkpoints(experiment: Experiment, datasets: Mapping[str, xr.Dataset]) -> None:
    """Refuse scores of one run that are of different checkpoints; retraining is of none.

    Args:
        experiment: Owner of the scores.
        datasets: Scores by method; their attribute ``posteriors`` as in
        :func:`bayestda.experiments.results.read_scores`.

    Raises:
        UserError: They are.
    """
    known: dict[str, tuple[str, str]] = {}
    for name, dataset in datasets.items():
        for run, posterior in dataset.attrs["posteriors"].items():
            expected, other = known.setdefault(run, (posterior, name))
            if posterior != expected:
                raise UserError(
                    f"{paths.scores(experiment.name, name, run)} is of other checkpoints than the "
                    f"scores of {other}: delete the older of the two and run "
                    f"`{results.Command(experiment, name)}`, or the same of {other}, again"
                )


def independent_predictions(experiment: Experiment) -> xr.Dataset:
    """Read the predictions of the runs that :func:`independent_scores` takes.

    Raises:
        UserError: Less than two such runs have predictions.
    """
    return _independent(experiment, results.read_predictions(experiment), "predictions")


def finite_scores(experiment: Experiment, method: str) -> xr.Dataset:
    """Read all runs' scores.

    Raises:
        UserError: Less than two runs have scores, or a score is not a finite number.
    """
    dataset = results.read_scores(experiment, method)
    finite = xr.apply_ufunc(np.isfinite, dataset["score"]).all(("checkpoint", "train", "test"))
    if not finite.all():
        run = dataset["seed"].values[~finite.values][0]
        raise UserError(
            f"{paths.scores(experiment.name, method, str(run))} holds scores that are not finite "
            "(a diverged training run?): delete the file to leave this run out, or make it again"
        )
    return dataset


def methods(experiment: Experiment) -> list[str]:
    """Return methods and variants that have scores, in the paper's order.

    Raises:
        UserError: None has.
    """
    found = results.methods_with_scores(experiment.name)
    if not found:
        folder = paths.results(experiment.name) / "scores"
        raise UserError(
            f"{folder} has no scores: make them with the stage scripts, `make reproduce` does all"
        )
    return sorted(found, key=place_of)


class Named(Protocol):
    """What a table is of: an experiment or final models."""

    @property
    def name(self) -> str:
        """Folder below ``results/``."""


def _independent(experiment: Experiment, dataset: xr.Dataset, kind: str) -> xr.Dataset:
    if experiment.randomness != "crossed":
        return dataset
    diagonal = dataset.isel(seed=(dataset["init"] == dataset["order"]).values)
    if diagonal.sizes["seed"] < 2:
        raise UserError(
            f"{experiment.name} has {kind} of {diagonal.sizes['seed']} runs whose initialisation "
            "and order are of one seed, at least two are needed: run all of its stages"
        )
    return diagonal


def _experiments(names: list[str] | None) -> list[Experiment]:
    if names:
        return [Experiment.parse(name) for name in names]
    found = results.experiments_with_scores()
    if not found:
        raise UserError(f"{paths.root() / 'results'} has no scores yet: run `make reproduce`")
    return found
