"""What the stages of final-model-only attribution need: data, network, and the final model."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
import xarray as xr
from torch import Tensor, nn

from tda import checkpoints, tabular
from tda.examples import Data
from tda.experiments import Run
from tda.final_model import FinalModels
from tda.further_training import balanced, chunk_for
from tda.gradients import SampleGradients
from tda.networks import seeded
from tda.networks.mlp import mlp
from tda.objective import Classification, Objective, Regression
from tda.parameters import Parameters
from tda.stages.context import Options, RunContext


@dataclass(frozen=True, eq=False)
class System:
    """A task as the stages see it; a further one is a further entry of ``SYSTEMS``.

    Attributes:
        split: with ``train``, ``test`` and ``hash``.
        objective: of training, and what is measured.
        build: makes the network with random parameters.
    """

    split: tabular.Split
    objective: Objective
    build: Callable[[], nn.Module]


def _tabular(task: str, device: str) -> System:
    table, split = tabular.TABLES[task], tabular.load(task, device)
    sizes = split.train.x.shape[1], table.num_outputs
    return System(
        split, Regression() if table.regression else Classification(), lambda: mlp(*sizes)
    )


SYSTEMS: dict[str, Callable[[str, str], System]] = dict.fromkeys(tabular.TABLES, _tabular)


class FinalContext(RunContext):
    """One final model of a task and, for further training, one order of the data."""

    def __init__(self, experiment: FinalModels, run: Run, options: Options):
        self.experiment, self.run, self.options = experiment, run, options
        self.device = torch.device(options.device)
        self.system = _system(experiment.task, options.device)
        self.split, self.objective = self.system.split, self.system.objective

    @cached_property
    def network(self) -> nn.Module:
        """With the initial parameters of the final model's training."""
        return seeded(self.system.build, self.run.init).to(self.device)

    @cached_property
    def layout(self) -> Parameters:
        """Layout of θ."""
        return Parameters(self.network)

    @cached_property
    def final(self) -> Run:
        """The run that trained the final model."""
        return self.experiment.finals([self.run.init])[0]

    @cached_property
    def theta_P(self) -> Tensor:
        """The final model's parameters."""
        made_by = f"python {self.experiment.script('train')} {self.flags}"
        settings = self.training_settings
        theta_CP = checkpoints.load(self.experiment, self.final, self.layout, settings, made_by)
        return theta_CP[-1].to(self.device)

    @cached_property
    def final_network(self) -> nn.Module:
        """With the final model's parameters, in evaluation mode."""
        network = seeded(self.system.build, self.run.init).to(self.device)
        self.layout.write(network, self.theta_P)
        return network.eval()

    @property
    def flags(self) -> str:  # type: ignore[override]
        """The flags by which any stage script is asked for this final model."""
        return f"{self.experiment.flags} --train_seed {self.run.init}"

    @property
    def training_settings(self) -> dict:  # type: ignore[override]
        """What the final model depends on."""
        return {
            **self.experiment.settings(),
            "train_seed": self.run.init,
            "data_hash": self.split.hash,
        }

    @cached_property
    def chunk(self) -> int:  # type: ignore[override]
        """Members to train together."""
        recipe = self.experiment.recipe
        largest = self.options.chunk or chunk_for(self.network, self.split.train, recipe)
        return balanced(1 + len(self.left_out), largest)

    @property
    def left_out(self) -> range:
        """Positions of the training examples that are left out in turn."""
        return range(min(self.experiment.protocol.num_left_out, len(self.split.train)))

    @property
    def evaluated(self) -> Data:
        """The test examples that are measured."""
        return self.split.test.take(slice(self.experiment.protocol.num_evaluated))

    @cached_property
    def gradients(self) -> SampleGradients:
        """Gradients of the final model, each computed once for all methods."""
        return SampleGradients(
            self.final_network, self.objective, self.theta_P,
            train=self.split.train, test=self.evaluated, memory_bytes=self.memory_bytes,
        )  # fmt: skip

    def stamped(self, dataset: xr.Dataset) -> xr.Dataset:
        """With a leading dim for the final model."""
        return dataset.expand_dims(train_seed=[self.run.init])


@lru_cache(maxsize=1)
def _system(task: str, device: str) -> System:
    return SYSTEMS[task](task, device)


@lru_cache(maxsize=2)
def final_context(experiment: FinalModels, run: Run, options: Options) -> FinalContext:
    """The context of a run, kept while its parts are computed."""
    return FinalContext(experiment, run, options)


def forget() -> None:
    """Read files anew: they may have changed since an earlier stage in this process."""
    final_context.cache_clear()
    _system.cache_clear()
