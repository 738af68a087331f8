"""What the stages of final-model-only attribution need beside a run: the final model."""

import copy
from functools import cached_property

import xarray as xr
from torch import Tensor, nn

from bayestda.experiments.grid import Run
from bayestda.experiments.stages.context import Context
from bayestda.experiments.stages.final_systems import FinalSystem
from bayestda.experiments.stages.options import Options
from bayestda.gradients.sample import SampleGradients
from bayestda.model.calls import AsCalled
from bayestda.model.examples import Data
from bayestda.model.parameters import Parameters
from bayestda.retraining.gold_standard import balanced, chunk_for
from bayestda.training.memory import members_that_fit


class FinalContext(Context):
    """One final model of a task and, for further training, one order of the data."""

    system: FinalSystem

    def __init__(self, system: FinalSystem, run: Run, options: Options):
        super().__init__(system, run, options)

    @property
    def trained_run(self) -> Run:
        """The run that trained the final model."""
        return self.system.models.finals([self.run.init])[0]

    @cached_property
    def theta_P(self) -> Tensor:
        """The final model's parameters."""
        return self.posterior[-1]

    @cached_property
    def final_network(self) -> nn.Module:
        """The network with the final model's parameters, in evaluation mode."""
        network = self.built()
        self.layout.write(network, self.theta_P)
        return network.eval()

    @cached_property
    def chunk(self) -> int:
        """Members to train together."""
        return balanced(1 + len(self.left_out), self.options.chunk or self._largest_chunk())

    def _largest_chunk(self) -> int:
        """On a GPU what fits, on a CPU what is fastest."""
        train, recipe = self.split.train, self.recipe
        if self.device.type == "cpu":
            return chunk_for(self.network, train, recipe)
        called = AsCalled(self.network, self.objective)
        batch = train.take(slice(recipe.batch_size))
        return members_that_fit(called, recipe, batch.x, self.memory_bytes)

    @property
    def left_out(self) -> range:
        """Positions of the training examples that are left out in turn."""
        return range(min(self.system.protocol.num_left_out, len(self.split.train)))

    @property
    def evaluated(self) -> Data:
        """The test examples that are measured."""
        return self.split.test.take(slice(self.system.protocol.num_evaluated))

    @cached_property
    def gradients(self) -> SampleGradients:
        """Gradients of the final model, each computed once for all methods."""
        return self._gradients(self.final_network)

    @cached_property
    def layer_gradients(self) -> SampleGradients:
        """Gradients of linear and convolutional layers alone, without norms and embeddings."""
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
        """Return a data set with a leading dim for the final model."""
        return dataset.expand_dims(train_seed=[self.run.init])
