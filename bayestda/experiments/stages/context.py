"""What the computation of one run needs, each made when first asked for."""

import sys
from functools import cached_property, lru_cache
from typing import TypeVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayestda.errors import UserError
from bayestda.experiments import checkpoints
from bayestda.experiments.data.split import Split
from bayestda.experiments.grid import Run
from bayestda.experiments.stages.options import Options
from bayestda.experiments.stages.systems import System
from bayestda.model.parameters import Parameters, private_copy
from bayestda.training.history import Training
from bayestda.training.members import Members
from bayestda.training.memory import budget_bytes, members_that_fit
from bayestda.training.posterior import Posterior


class Context:
    """One run of one system: data, network, and where it starts from.

    Attributes:
        system: The model, its data and its training.
        run: The seeds of initialisation and order.
        options: The flags.
        device: The torch device.
        split: The data.
        objective: The loss of training, and what is measured.
        recipe: The hyperparameters of training.
    """

    def __init__(self, system: System, run: Run, options: Options):
        self.system, self.run, self.options = system, run, options
        self.device = torch.device(options.device)
        self.split = _data(system, options.device, system.data_seed(run))
        self.objective, self.recipe = system.objective, system.recipe

    @property
    def memory_bytes(self) -> float:
        """What this process may take."""
        return budget_bytes(self.options.memory_gb, self.device, self.options.jobs or 1)

    @cached_property
    def network(self) -> torch.nn.Module:
        """The run's network with its initial parameters."""
        return self.built()

    def built(self) -> torch.nn.Module:
        """Build the run's network once more."""
        return self.system.network(self.run, self.split, self.device)

    @cached_property
    def layout(self) -> Parameters:
        """Layout of θ."""
        return Parameters(self.network)

    @property
    def trained_run(self) -> Run:
        """The run that has trained the checkpoints."""
        return self.run

    @cached_property
    def posterior(self) -> Tensor:
        """θ of the run's checkpoints [C P]."""
        theta_CP = checkpoints.load(
            self.system, self.trained_run, self.layout, self.training_settings,
            f"python {self.system.script('train')} {self.flags}",
        )  # fmt: skip
        return theta_CP.to(self.device)

    @property
    def flags(self) -> str:
        """The flags by which any stage script is asked for this run, from any folder."""
        return self.system.flags_of(self.run)

    @property
    def training_settings(self) -> dict:
        """What the run's checkpoints depend on."""
        known = {**self.system.settings(), **self.system.run_settings(self.run)}
        return {**known, "data_hash": self.split.hash}

    @cached_property
    def chunk(self) -> int:
        """Members to train together."""
        batch = self.split.train.x[: self.recipe.batch_size]
        fitting = (self.network, self.recipe, batch, self.memory_bytes)
        return self.options.chunk or members_that_fit(*fitting)

    def members(self, weight_RN: Tensor, initial_P: Tensor | None = None) -> Members:
        """Return members with the run's order.

        Args:
            weight_RN: The weight of each example for each member.
            initial_P: Where they start from; None: the run's initialisation.
        """
        continued = initial_P is not None
        initial_P = self.layout.read(self.network) if initial_P is None else initial_P
        order = self.system.order(self.run, len(self.split.train), continued=continued)
        dropout_seed = self.run.order if self.system.has_dropout else None
        return Members(initial_P[None], order.to(self.device), weight_RN, dropout_seed)

    def full_run(self) -> Members:
        """Return the one member that trains with all examples."""
        return self.members(torch.ones(1, len(self.split.train), device=self.device))

    def as_posterior(self) -> Posterior:
        """Return the run and its checkpoints as the library knows them, under the seed 0."""
        seed, network, layout = 0, self.network, self.layout
        order = self.system.order(self.run, len(self.split.train))
        training = Training(self.recipe, {seed: layout.read(network)}, {seed: order})
        samples = {seed: [layout.split(theta_P) for theta_P in self.posterior]}
        names = tuple(self.recipe.kept_epochs)
        return Posterior(lambda: private_copy(network), samples, names, training=training)

    def labelled(self, values: Tensor | np.ndarray, dims: tuple[str, ...]) -> xr.DataArray:
        """Return an array with a leading dim ``seed`` of length 1 and its dims' coordinates."""
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


Known = TypeVar("Known", bound=Context)


@lru_cache(maxsize=1)
def _data(system: System, device: str, seed: int | None) -> Split:
    """Load the data once for all runs (with crops, once for each)."""
    return system.data(device, seed)


@lru_cache(maxsize=2)
def _kept(kind: type[Context], system: System, run: Run, options: Options) -> Context:
    return kind(system, run, options)


def context_of(kind: type[Known], system: System, run: Run, options: Options) -> Known:
    """Return the context of a run, which is kept while its parts are computed."""
    return _kept(kind, system, run, options)  # type: ignore[return-value,arg-type]


def forget(system: System) -> None:
    """Read files anew, as they may have changed since an earlier stage in this process."""
    _kept.cache_clear()
    _data.cache_clear()
    system.forget()


def choose_device(requested: str | None, seed_id: int | None) -> str:
    """Return ``cuda:{seed_id mod GPUs}`` if there is a GPU, else the CPU, or what was asked for.

    A GPU that is there and cannot be used is named on stderr, and the CPU taken.

    Raises:
        UserError: The device that was asked for cannot be used.
    """
    gpus = torch.cuda.device_count()
    device = requested or (f"cuda:{(seed_id or 0) % gpus}" if gpus else "cpu")
    try:
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        if requested:
            raise UserError(f"device {device!r} cannot be used here: leave out --device") from error
        reason = str(error).partition("\n")[0]
        print(f"{device} cannot be used ({reason}): falling back to the CPU", file=sys.stderr)
        return "cpu"
    return device
