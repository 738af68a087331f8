"""An experiment's samples of the posterior on disk: runs (seeds) x checkpoints."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from bayestda.errors import UserError
from bayestda.experiments import paths, results
from bayestda.experiments.grid import Grid, Run
from bayestda.files import atomic
from bayestda.model.parameters import Parameters


def files(experiment: Grid, run: Run) -> list[Path]:
    """Return the run's checkpoint files, one for each kept epoch."""
    return [
        paths.checkpoint(experiment, run.name, epoch) for epoch in experiment.recipe.kept_epochs
    ]


def save(experiment: Grid, run: Run, theta_CP: Tensor, layout: Parameters, settings: dict) -> None:
    """Write a run's checkpoints as named parameters with their settings.

    Predictions of checkpoints that were there before are removed.

    Raises:
        UserError: training has diverged; nothing is written or removed then.
    """
    if not theta_CP.isfinite().all():
        raise UserError(
            f"run {run.name} of {experiment.name} has diverged, its parameters are not finite "
            "numbers: check the data, or leave the run out by --seed_id of the others"
        )
    atomic.remove(paths.predictions(experiment.name, run.name))
    metadata = {"settings": json.dumps(settings, sort_keys=True), **results.versions()}
    for path, theta_P in zip(files(experiment, run), theta_CP.cpu(), strict=True):
        named = {name: value.contiguous() for name, value in layout.split(theta_P).items()}
        own = {"theta": fingerprint(theta_P)}
        atomic.write_bytes(path, serialize(named, metadata | own))


def is_saved(
    experiment: Grid, run: Run, settings: dict, made_by: str | results.Command = ""
) -> bool:
    """Return whether all checkpoints of the run exist with these settings.

    Raises:
        UserError: one is damaged or was made with other settings.
    """
    made_by = made_by or results.Command(experiment, "predictions")
    existing = [path for path in files(experiment, run) if results.exists(path)]
    for path in existing:
        with _open(path, made_by) as checkpoint:
            metadata = checkpoint.metadata() or {}
        results.check_settings(path, _settings(path, metadata, made_by), settings)
    return len(existing) == len(files(experiment, run))


def load(
    experiment: Grid,
    run: Run,
    layout: Parameters,
    settings: dict,
    made_by: str | results.Command = "",
) -> Tensor:
    """Read θ of a run's checkpoints [C P].

    Args:
        experiment, run: The run whose checkpoints are read.
        layout: The layout of θ.
        settings: The settings that the checkpoints must have been made with.
        made_by: The command that makes them, for errors; default: as the experiment's name tells.

    Raises:
        UserError: A checkpoint is missing, damaged, of other settings or of another network.
    """
    made_by = made_by or results.Command(experiment, "predictions")
    missing = [path for path in files(experiment, run) if not results.exists(path)]
    if missing:
        raise UserError(f"{missing[0]} is missing: train it first with `{made_by}`")
    is_saved(experiment, run, settings, made_by)
    return torch.stack([_read(path, made_by, layout) for path in files(experiment, run)])


def fingerprint(theta_CP: Tensor) -> str:
    """Hash parameters, so that scores of different checkpoints are never mixed."""
    return hashlib.sha256(theta_CP.cpu().numpy().tobytes()).hexdigest()[:16]


def _read(path: Path, made_by: str | results.Command, layout: Parameters) -> Tensor:
    with _open(path, made_by) as checkpoint:
        named = {name: checkpoint.get_tensor(name) for name in checkpoint.keys()}  # noqa: SIM118
        metadata = checkpoint.metadata() or {}
    shapes = {name: tuple(value.shape) for name, value in named.items()}
    if shapes != {name: tuple(shape) for name, shape in layout.shapes.items()}:
        raise UserError(
            f"{path} holds parameters of another network: delete it and run `{made_by}`"
        )
    theta_P = layout.join(named)
    if theta_P.dtype != torch.float32 or not theta_P.isfinite().all():
        raise UserError(
            f"{path} holds values that are not finite float32 numbers: delete it and run "
            f"`{made_by}`"
        )
    if metadata.get("theta", fingerprint(theta_P)) != fingerprint(theta_P):
        raise UserError(f"{path} does not match its recorded hash: delete it and run `{made_by}`")
    return theta_P


def _settings(path: Path, metadata: dict[str, str], made_by: str | results.Command) -> dict:
    try:
        return dict(json.loads(metadata.get("settings", "{}")))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path} has damaged settings ({error}): delete it and run `{made_by}`"
        ) from error


def _open(path: Path, made_by: str | results.Command):
    try:
        path.open("rb").close()  # safetensors' own errors do not tell a machine's faults apart
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        what = f"damaged or no checkpoint ({error})"
        raise results.unreadable(path, error, what, made_by) from error
