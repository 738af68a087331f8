"""Files: written whole or not at all, compared by their settings, read with one clear error.

A result is a netCDF file whose attribute ``settings`` (JSON) says what it depends on; further
attributes (versions, commit, seconds) say how it came about and are not compared. It ends with a
checksum (:mod:`bayestda.files.checksums`). Parameters are safetensors with the same ``settings``
in their metadata. Nothing is ever unpickled.
"""

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import pandas as pd
import xarray as xr

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.grid import VARIANTS, Experiment, Grid, sign_of
from bayestda.files import checksums, provenance
from bayestda.files.atomic import write_bytes, write_whole


class Named(Protocol):
    """An experiment of any kind."""

    @property
    def name(self) -> str:
        """Folder below ``results/``."""


def write_csv(path: Path, table: pd.DataFrame) -> Path:
    """Write a table whole, numbers with six digits, and return its path."""
    write_whole(path, lambda file: table.to_csv(file, index=False, float_format="%.6g"))
    return path


def write_table(experiment: "str | Named", name: str, table: pd.DataFrame) -> Path:
    """Write a CSV table of an experiment, whole, and return its path.

    Args:
        experiment: The experiment, or its folder's name below ``results/``.
        name: The table's name.
        table: The rows.
    """
    folder = experiment if isinstance(experiment, str) else experiment.name
    return write_csv(paths.table(folder, name), table)


def write_scores(path: Path, dataset: xr.Dataset, settings: dict, **provenance: object) -> None:
    """Write a data set with its settings and where it comes from."""
    stamped = dataset.assign_attrs(
        settings=json.dumps(settings, sort_keys=True),
        **provenance,
        **versions(),
    )
    encoding = {
        str(name): {"zlib": True, "complevel": 1, "shuffle": True}
        for name, values in dataset.data_vars.items()
        if values.ndim
    }
    # Made in memory: a full disk in the middle of HDF5's own writing can end the process.
    content = stamped.to_netcdf(engine="h5netcdf", encoding=encoding)
    write_bytes(path, checksums.sealed(content))


def open_scores(path: Path, made_by: "str | Command") -> xr.Dataset:
    """Read the whole data set of a file into memory.

    Args:
        path: A netCDF file of :func:`write_scores`.
        made_by: The command that makes the file, for the error.

    Raises:
        UserError: The file is missing, truncated, changed or foreign, or cannot be read.
    """
    if not exists(path):
        raise UserError(f"{path} is missing: make it with `{made_by}`")
    try:
        return _opened(path)
    except _UNREADABLE as error:
        what = f"damaged or not a file of this project ({_reason(error)})"
        raise unreadable(path, error, what, made_by) from error


def exists(path: Path) -> bool:
    """Return whether a file is there.

    Raises:
        UserError: that cannot be found out.
    """
    try:
        return path.exists()
    except OSError as error:
        raise unreadable(path, error, "lost", "") from error


def unreadable(path: Path, error: Exception, what: str, made_by: "str | Command") -> UserError:
    """Return the error for a file that was not read: a fault of the machine is no damage.

    Args:
        path, error: The file, and how reading it failed.
        what: The fault of the file, if it was read.
        made_by: The command that makes it.
    """
    if isinstance(error, OSError) and error.errno:
        return UserError(
            f"{path} cannot be read: {error.strerror}. Mend that (permissions, the disk, its "
            "network, the limit of open files), then run the same command again"
        )
    return UserError(f"{path} is {what}: delete it and run `{made_by}`")


def _opened(path: Path) -> xr.Dataset:
    checksums.check(path)
    with xr.open_dataset(path, engine="h5netcdf") as dataset:
        loaded = dataset.load()
    dict(json.loads(loaded.attrs["settings"]))
    return loaded


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else type(error).__name__


_UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError)


def is_done(path: Path, settings: dict, made_by: "str | Command") -> bool:
    """Return whether the result exists with exactly these settings.

    Raises:
        UserError: it exists with other settings, is damaged, or cannot be read.
    """
    if not exists(path):
        return False
    check_settings(path, settings_of(open_scores(path, made_by)), settings)
    return True


def has_settings(dataset: xr.Dataset, wanted: dict) -> bool:
    """Return whether a data set of :func:`open_scores` has exactly these settings."""
    return not differences(settings_of(dataset), wanted, "", "")


def check_settings(path: Path, found: dict, wanted: dict) -> None:
    """Compare settings.

    Raises:
        UserError: they differ; the message names each difference.
    """
    differing = differences(found, wanted, "file", "asked")
    if differing:
        raise UserError(
            f"{path} was made with other settings ({differing}): "
            "delete it, or run with the settings of the file"
        )


def check_sign(path: Path, found: dict, method: str, made_by: "str | Command") -> None:
    """Refuse scores of the paper's sign, or what was made of them.

    Args:
        path: A file of a method.
        found: The settings of its scores.
        method: The folder below ``scores/``.
        made_by: The command that makes the file.

    Raises:
        UserError: They are of before version 0.2.0.
    """
    if any(found.get(name) != value for name, value in sign_of(method).items()):
        raise UserError(
            f"{path} has the paper's sign, as before version 0.2.0, and not positive = helpful: "
            f"delete it and run `{made_by}`"
        )


def differences(one: dict, other: dict, name: str, other_name: str) -> str:
    """Say what differs between settings; "" if nothing does."""
    one, other = json.loads(json.dumps([one, other]))  # tuples become lists, as in files
    return "; ".join(
        f"{key}: {name} {one.get(key)!r}, {other_name} {other.get(key)!r}"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    )


def settings_of(dataset: xr.Dataset) -> dict:
    """Return the settings of a data set of :func:`open_scores`."""
    return dict(json.loads(dataset.attrs["settings"]))


def read_scores(experiment: Experiment, method: str, select: dict | None = None) -> xr.Dataset:
    """Read all runs' scores of one method: ``score`` (seed, checkpoint, train, test).

    Args:
        experiment: The experiment that the scores are of.
        method: The folder below ``scores/``, for example ``loo`` or ``influence``.
        select: Coordinate values for further dims, for example ``{"damping": 0.1}``, or None for
            all; a further dim that is not named takes the value of its attribute
            ``default_<dim>``.

    Returns:
        The scores; their attribute ``posteriors`` has the fingerprint of each run's checkpoints, by
        the run's name, where the method is of these.

    Raises:
        UserError: less than two runs have scores, or runs were made with different settings.
    """
    files = _existing(paths.scores(experiment.name, method, "x").parent, experiment, method)
    datasets = [_open_checked(file, Command(experiment, method)) for file in files]
    for file, dataset in zip(files, datasets, strict=True):
        check_sign(file, settings_of(dataset), method, Command(experiment, method))
    for file, dataset in zip(files, datasets, strict=True):
        check_settings(file, _common_settings(dataset), _common_settings(datasets[0]))
    scores = xr.concat(
        [_select(dataset, select or {}) for dataset in datasets],
        dim="seed",
        combine_attrs="override",
        join="exact",
    )
    made = {file.stem: settings_of(own) for file, own in zip(files, datasets, strict=True)}
    posteriors = {run: own["posterior"] for run, own in made.items() if "posterior" in own}
    return scores.assign_attrs(posteriors=posteriors)


def read_predictions(experiment: Experiment) -> xr.Dataset:
    """Read the logits ``train_logit``, ``test_logit`` of all runs and kept checkpoints."""
    files = _existing(paths.predictions(experiment.name, "x").parent, experiment, "predictions")
    datasets = [open_scores(file, Command(experiment, "predictions")) for file in files]
    for file, dataset in zip(files, datasets, strict=True):
        check_settings(file, _common_settings(dataset), _common_settings(datasets[0]))
    return xr.concat(
        datasets,
        dim="seed",
        combine_attrs="override",
        join="exact",
    )


def methods_with_scores(experiment_name: str) -> list[str]:
    """Return the methods and variants that have at least one score file, sorted."""
    folder = paths.results(experiment_name) / "scores"
    return sorted(method.name for method in folder.glob("*") if any(method.glob("[!.]*.nc")))


def experiments_with_scores() -> list[Experiment]:
    """Return the experiments that have at least one score file, sorted by name."""
    found = []
    for folder in sorted((paths.root() / "results").glob("*/scores")):
        try:
            experiment = Experiment.parse(folder.parent.name)
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        if methods_with_scores(experiment.name):
            found.append(experiment)
    return found


@cache
def versions() -> dict[str, str]:
    """Return the versions of what computes, and the commit of the experiments' code."""
    return {**provenance.versions(), "commit": _commit()}


def _commit() -> str:
    """Return the commit of the code (``+`` when modified), or ``unknown`` outside a clone."""
    command = [
        "git",
        "-C",
        str(paths.REPOSITORY),
        "describe",
        "--always",
        "--dirty=+",
        "--abbrev=12",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _open_checked(path: Path, made_by: "Command") -> xr.Dataset:
    """Read a file of scores, which has the array and the dims of one."""
    dataset = open_scores(path, made_by)
    score = dataset.get("score")
    if score is None or not set(_SCORE_DIMS) <= set(score.dims) or score.dtype.kind != "f":
        found = "no array 'score'" if score is None else f"score of {score.dtype} by {score.dims}"
        raise UserError(
            f"{path} holds {found}, and not floating-point numbers by {_SCORE_DIMS}: "
            f"delete it and run `{made_by}`"
        )
    return dataset


def _existing(folder: Path, experiment: Experiment, method: str) -> list[Path]:
    """Return the files of the runs that are there.

    Raises:
        UserError: less than two, or one of a run that ``seeds.txt`` does not name.
    """
    files = [folder / f"{run.name}.nc" for run in experiment.runs()]
    unknown = sorted(set(folder.glob("[!.]*.nc")).difference(files))
    if unknown:
        raise UserError(
            f"{unknown[0]} is of a run that {paths.SEEDS} does not name: restore its line "
            "(`git checkout seeds.txt`), or delete the file"
        )
    files = [file for file in files if file.exists()]
    if len(files) < 2:
        raise UserError(
            f"{folder} has {len(files)} of {len(experiment.runs())} runs, at least two are needed: "
            f"run `{Command(experiment, method)}`"
        )
    return files


def _common_settings(dataset: xr.Dataset) -> dict:
    """Return the settings that all runs of an experiment share."""
    own = ("run", "posterior")
    return {key: value for key, value in settings_of(dataset).items() if key not in own}


def _select(dataset: xr.Dataset, select: dict) -> xr.Dataset:
    extra = [dim for dim in dataset["score"].dims if dim not in _SCORE_DIMS]
    values = {dim: select.get(dim, dataset.attrs[f"default_{dim}"]) for dim in extra}
    return dataset.sel({dim: value for dim, value in values.items() if value is not None})


_SCORE_DIMS = ("seed", "checkpoint", "train", "test")


@dataclass(frozen=True)
class Command:
    """The stage command that makes the scores (or predictions) of an experiment.

    It is made up when an error shows it, from a result that says which flags made it.
    """

    experiment: Grid
    method: str

    def __str__(self) -> str:
        experiment, method = self.experiment, self.method
        flags = _recorded_flags(experiment) or experiment.flags
        if method == "predictions":
            return f"python {experiment.script('train')} {flags}"
        script, *own = VARIANTS.get(method, method).split(maxsplit=1)
        return " ".join(["python", experiment.script(script), *own, flags])


def _recorded_flags(experiment: Grid) -> str | None:
    """Return the flags of a result of the experiment, as a name tells no folder's path."""
    for file in sorted(paths.results(experiment.name).glob("*/**/[!.]*.nc")):
        with contextlib.suppress(*_UNREADABLE):
            checksums.check(file)
            with xr.open_dataset(file, engine="h5netcdf") as dataset:
                return str(dataset.attrs["flags"])
    return None
