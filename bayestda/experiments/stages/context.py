"""What the computation of one run needs, each made when first asked for."""

import os
import sys
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayestda.errors import UserError
from bayestda.experiments import checkpoints, networks
from bayestda.experiments.data import subsets
from bayestda.experiments.grid import Experiment, Run
from bayestda.experiments.networks import pretrained
from bayestda.model.losses import Classification
from bayestda.model.parameters import Parameters
from bayestda.training.members import Members, data_order
from bayestda.training.memory import budget_bytes, members_that_fit


@dataclass(frozen=True)
class Options:
    """Flags of a stage script.

    Attributes:
        device: torch device.
        jobs: worker processes of one thread each, None for all cores. Results do not depend on it,
            but for rounding where gradients do not fit into a worker's share of ``memory_gb``.
        memory_gb: what all workers together may take; None: most of what is free, so that blocks of
            gradients of a large model may differ between two runs of one command, and rounding.
        chunk: members trained together; None: what fits on a GPU, 1 on a CPU.
        tf32: TensorFloat-32 in training, never in scores.
        pretrained: where a ViT's weights are from: hub id, local folder, or ``vit_small``.
        augment: ``none``, or random crops of a ViT's training images, drawn once per run.
        method: the method's own flags, as sorted pairs.
    """

    device: str = "cpu"
    jobs: int | None = None
    memory_gb: float | None = None
    chunk: int | None = None
    tf32: bool = False
    pretrained: str = ""
    augment: str = "none"
    method: tuple[tuple[str, object], ...] = ()

    def __getitem__(self, flag: str):
        return dict(self.method)[flag]


class RunContext:
    """What the runner asks of the context of a run.

    Attributes:
        options: flags.
        device: to compute on.
        split: the data, with their ``hash``.
        training_settings: what the run's training depends on.
        flags: by which any stage script is asked for the same, from any folder.
        chunk: members to train together.
    """

    options: Options
    device: torch.device
    split: Any
    training_settings: Any
    flags: Any
    chunk: Any

    @property
    def memory_bytes(self) -> float:
        """What this process may take."""
        return budget_bytes(self.options.memory_gb, self.device, self.options.jobs or 1)


class Context(RunContext):
    """One run of an experiment: data, network, and where it starts from."""

    def __init__(self, experiment: Experiment, run: Run, options: Options):
        self.experiment, self.run, self.options = experiment, run, options
        self.recipe = experiment.recipe
        self.objective = Classification()
        self.device = torch.device(options.device)
        crop_seed = None if options.augment == "none" else run.order
        self.split = _split(experiment, options.device, options.pretrained, crop_seed)

    @cached_property
    def network(self) -> torch.nn.Module:
        """The run's network with its initial parameters."""
        experiment, seed = self.experiment, self.run.init
        if experiment.family == "cnn":
            return networks.build(experiment.model, experiment.task, seed).to(self.device)
        return pretrained.moved(pretrained.lora_vit(self.options.pretrained, seed), self.device)

    @cached_property
    def layout(self) -> Parameters:
        """Layout of θ."""
        return Parameters(self.network)

    @cached_property
    def posterior(self) -> Tensor:
        """θ of the run's checkpoints [C P]."""
        loaded = checkpoints.load(
            self.experiment, self.run, self.layout, self.training_settings,
            f"python {self.experiment.script('train')} {self.flags}",
        )  # fmt: skip
        return loaded.to(self.device)

    @property
    def flags(self) -> str:
        """The flags by which any stage script is asked for this experiment, from any folder."""
        options = self.options
        return self.experiment.flags_of(options.pretrained, options.augment, options.tf32)

    @property
    def training_settings(self) -> dict:
        """What the run's checkpoints depend on."""
        return {
            **self.experiment.settings(),
            "run": self.run.name,
            **self.experiment.held_fixed(self.run),
            "data_hash": self.split.hash,
            "tf32": self.options.tf32,
            **self._pretrained_settings,
        }

    @property
    def _pretrained_settings(self) -> dict:
        if self.experiment.family == "cnn":
            return {}
        weights = pretrained.fingerprint(self.options.pretrained)
        return {"pretrained": weights, "augment": self.options.augment}

    @cached_property
    def chunk(self) -> int:
        """Members to train together."""
        batch = self.split.train.x[: self.recipe.batch_size]
        fitting = (self.network, self.recipe, batch, self.memory_bytes)
        return self.options.chunk or members_that_fit(*fitting)

    def members(self, weight_RN: Tensor, initial_P: Tensor | None = None) -> Members:
        """Members with the run's order that start from its initialisation or from given θ."""
        initial_P = self.layout.read(self.network) if initial_P is None else initial_P
        order = data_order(self.run.order, len(self.split.train.y), self.recipe.epochs)
        dropout_seed = None if self.experiment.family == "cnn" else self.run.order
        return Members(initial_P[None], order.to(self.device), weight_RN, dropout_seed)

    def labelled(self, values: Tensor | np.ndarray, dims: tuple[str, ...]) -> xr.DataArray:
        """An array with a leading dim ``seed`` of length 1 and the coordinates of its dims."""
        array = values.cpu().numpy() if isinstance(values, Tensor) else values
        return xr.DataArray(array[None], dims=("seed", *dims), coords=self._coordinates(dims))

    def label_train(self, dataset: xr.Dataset, dim: str) -> xr.Dataset:
        """Rename a dim that counts training examples to ``train``, with its coordinates."""
        train = self.split.train
        labels = {"train": train.index, "train_label": ("train", train.y.cpu().numpy())}
        return dataset.drop_vars(dim).rename({dim: "train"}).assign_coords(labels)

    def _coordinates(self, dims: tuple[str, ...]) -> dict:
        run, subsets = self.run, {"train": self.split.train, "test": self.split.test}
        coordinates: dict = {
            "seed": [int(run.name) if run.name.isdigit() else run.name],
            "init": ("seed", [run.init]),
            "order": ("seed", [run.order]),
        }
        if "checkpoint" in dims:
            coordinates["checkpoint"] = self.recipe.kept_epochs
        for dim, subset in subsets.items():
            if dim in dims:
                coordinates[dim] = subset.index
                coordinates[f"{dim}_label"] = (dim, subset.y.cpu().numpy())
        return coordinates


@lru_cache(maxsize=1)
def _split(
    experiment: Experiment, device: str, source: str, crop_seed: int | None
) -> subsets.Split:
    """The data of an experiment, prepared once for all runs (with crops, once for each)."""
    if experiment.family == "cnn":
        return subsets.load(experiment, device)
    return subsets.load(experiment, device, pretrained.Inputs(source, device, crop_seed))


@lru_cache(maxsize=2)
def context(experiment: Experiment, run: Run, options: Options) -> Context:
    """The context of a run, kept while its parts are computed."""
    return Context(experiment, run, options)


def forget() -> None:
    """Read files anew: they may have changed since an earlier stage in this process."""
    context.cache_clear()
    _split.cache_clear()
    pretrained.forget()


def choose_device(requested: str | None, seed_id: int | None) -> str:
    """``cuda:{seed_id mod GPUs}`` if there is a GPU, else the CPU, or what was asked for.

    A GPU that is there and cannot be used is named on stderr, and the CPU taken.

    Raises:
        UserError: the device that was asked for cannot be used.
    """
    gpus = torch.cuda.device_count()
    device = requested or (f"cuda:{(seed_id or 0) % gpus}" if gpus else "cpu")
    try:
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        if requested:
            raise UserError(f"device {device!r} cannot be used here: leave out --device") from error
        reason = str(error).partition("\n")[0]
        print(f"{device} cannot be used ({reason}): going on on the CPU", file=sys.stderr)
        return "cpu"
    return device


def default_jobs(device: str, num_parts: int) -> int:
    """Workers: all cores on a CPU, one process on a GPU, never more than there are parts."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min((cores or 1) if device == "cpu" else 1, num_parts))
