"""What the stages of final-model-only attribution need: data, network, and the final model."""

import copy
from functools import cached_property, lru_cache

import torch
import xarray as xr
from torch import Tensor, nn

from bayestda.experiments import checkpoints
from bayestda.experiments.final_models import FinalModels
from bayestda.experiments.grid import Run
from bayestda.experiments.networks import bert, pretrained, seeded
from bayestda.experiments.stages.context import Options, RunContext
from bayestda.experiments.stages.systems import System, system
from bayestda.gradients.sample import SampleGradients
from bayestda.model.examples import Data
from bayestda.model.objective import AsCalled
from bayestda.model.parameters import Parameters
from bayestda.retraining.gold_standard import balanced, chunk_for
from bayestda.training.memory import members_that_fit


class FinalContext(RunContext):
    """One final model of a task and, for further training, one order of the data."""

    def __init__(self, experiment: FinalModels, run: Run, options: Options):
        self.experiment, self.run, self.options = experiment, run, options
        self.device = torch.device(options.device)
        self.system = _system(experiment, options.device)
        self.split, self.objective = self.system.split, self.system.objective

    @cached_property
    def network(self) -> nn.Module:
        """With the initial parameters of the final model's training."""
        return self._built()

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
        network = self._built()
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
            **self.system.settings,
            "train_seed": self.run.init,
            "data_hash": self.split.hash,
        }

    @cached_property
    def chunk(self) -> int:  # type: ignore[override]
        """Members to train together."""
        return balanced(1 + len(self.left_out), self.options.chunk or self._largest_chunk())

    def _largest_chunk(self) -> int:
        """On a GPU what fits, on a CPU what is fastest."""
        train, recipe = self.split.train, self.experiment.recipe
        if self.device.type == "cpu":
            return chunk_for(self.network, train, recipe)
        called = AsCalled(self.network, self.objective)
        batch = train.take(slice(recipe.batch_size))
        return members_that_fit(called, recipe, batch.x, self.memory_bytes)

    def _built(self) -> nn.Module:
        """The network, drawn on the CPU, so that a seed means the same on every device."""
        return pretrained.moved(seeded(self.system.build, self.run.init), self.device)

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
        return self._gradients(self.final_network)

    @cached_property
    def layer_gradients(self) -> SampleGradients:
        """The same through linear and convolutional layers alone: without norms, embeddings."""
        network = copy.deepcopy(self.final_network)
        for module in network.modules():
            if not isinstance(module, nn.Linear | nn.Conv2d):
                for parameter in module.parameters(recurse=False):
                    parameter.requires_grad_(False)
        everything = len(Parameters(network).shapes) == len(self.layout.shapes)
        return self.gradients if everything else self._gradients(network)

    def _gradients(self, network: nn.Module) -> SampleGradients:
        theta_P = Parameters(network).read(network)
        return SampleGradients(
            network, self.objective, theta_P,
            train=self.split.train, test=self.evaluated, memory_bytes=self.memory_bytes,
        )  # fmt: skip

    def stamped(self, dataset: xr.Dataset) -> xr.Dataset:
        """With a leading dim for the final model."""
        return dataset.expand_dims(train_seed=[self.run.init])


@lru_cache(maxsize=1)
def _system(models: FinalModels, device: str) -> System:
    return system(models, device)


@lru_cache(maxsize=2)
def final_context(experiment: FinalModels, run: Run, options: Options) -> FinalContext:
    """The context of a run, kept while its parts are computed."""
    return FinalContext(experiment, run, options)


def forget() -> None:
    """Read files anew: they may have changed since an earlier stage in this process."""
    final_context.cache_clear()
    _system.cache_clear()
    bert.forget()
