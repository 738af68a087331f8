"""What a stage is to the runner."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import xarray as xr

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.stages.context import Context
from bayestda.experiments.stages.options import Options

Known = TypeVar("Known", bound=Context)
Result = xr.Dataset | UserError


class Stage(Generic[Known]):
    """A stage of the work; subclasses say what is computed for a run's context.

    Attributes:
        context: The class of the contexts of its runs.
        name: The name of the stage, for the progress bar.
        unit: What an item of the work is, for the progress bar.
        stacks: Whether members are trained together, so that fewer of them take less memory.
        chosen_by: The flag that names the outputs, where each may be left out; else "".
    """

    context: ClassVar[type[Context]] = Context
    name = ""
    unit = "run"
    stacks = False
    chosen_by = ""

    def outputs(self, options: Options) -> tuple[str, ...]:
        """Return the names of the results: folders below ``scores/``."""
        raise NotImplementedError

    def settings(self, context: Known, output: str) -> dict:
        """Return what an output depends on, beside the training settings."""
        raise NotImplementedError

    def compute(self, context: Known, items: range, chunk: int) -> Mapping[str, Result]:
        """Compute some items, by output; ``chunk`` members are trained together.

        With ``chosen_by``, an error is the result of what cannot be computed.
        """
        raise NotImplementedError

    def num_items(self, context: Known) -> int:
        """Count the items that the work of a run has."""
        return 1

    def wanted_items(self, context: Known) -> range:
        """Return the items of a run that this command is to compute."""
        return range(self.num_items(context))

    def part_size(self, context: Known) -> int:
        """Return the number of items in a part, which is lost when the stage is killed."""
        return 1

    def gather(self, context: Known, parts: list[xr.Dataset]) -> xr.Dataset:
        """Join the results of one output, in the order of their first items; they may overlap."""
        return parts[0]

    def is_complete(self, context: Known) -> bool:
        """Return whether everything beside the output files is there."""
        return True

    def path(self, experiment: str, output: str, run: str) -> Path:
        """Return the file of an output."""
        return paths.scores(experiment, output, run)
