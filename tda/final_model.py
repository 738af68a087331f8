"""The protocol of final-model-only attribution (Wei et al. 2025, table 1), each constant once."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tda.errors import UserError
from tda.experiments import Recipe, Run

TRAIN_SEEDS = (0, 1, 2)  # final models; the paper has one
NUM_SEEDS = 10  # orders of further training by default; the paper has 100
FIRST_ORDER = 1000  # seed of the first order: no final model was trained in one of these
OPTIMIZERS = ("sgd", "adam", "adamw")
_MARKS = (1, 2, 3, 5, 7)


@dataclass(frozen=True)
class Protocol:
    """How a task's final model comes about, and how it is trained further.

    Attributes:
        training: of the final model.
        further: by optimiser.
        num_left_out: l, the first training examples of the (shuffled) split.
        num_evaluated: m, the first test examples; None: all.
    """

    training: Recipe
    further: dict[str, Recipe]
    num_left_out: int = 100
    num_evaluated: int | None = None


def _tabular(rate: float, epochs: int, further: Recipe, adam: float, evaluated: int | None):
    training = Recipe(epochs, 128, rate, 0.0, "sgd", keep=1)
    adaptive = {name: replace(further, optimizer=name, lr=adam) for name in ("adam", "adamw")}
    return Protocol(training, {"sgd": further, **adaptive}, num_evaluated=evaluated)


def _further(rate: float, epochs: int) -> Recipe:
    return Recipe(epochs, 128, rate, 0.0, "sgd", keep=1)


PROTOCOLS = {
    "concrete": _tabular(0.3, 1000, _further(3e-2, 500), 1e-4, None),
    "energy": _tabular(0.3, 1000, _further(3e-2, 500), 1e-4, None),
    "heloc": _tabular(1e-3, 1000, _further(1e-4, 200), 1e-6, 100),
    "adult": _tabular(1e-2, 100, _further(1e-4, 25), 1e-6, 100),
}


def evaluated_epochs(last: int) -> list[int]:
    """Epochs after which further training is measured: 0, 1, 2, 3, 5, 7, 10, 20, ..., last."""
    marks = [mark * 10**power for power in range(len(str(last))) for mark in _MARKS]
    return [0, *(mark for mark in marks if mark < last), last]


@dataclass(frozen=True)
class FinalModels:
    """Final models of a task, one for each training seed, and further training of each.

    Attributes:
        task: a name of ``PROTOCOLS``.

    Raises:
        UserError: no such task.
    """

    task: str

    def __post_init__(self) -> None:
        if self.task not in PROTOCOLS:
            raise UserError(f"unknown task {self.task!r}: choose one of {', '.join(PROTOCOLS)}")

    @property
    def model(self) -> str:
        """Folder below ``models/``."""
        return "fimo"

    @property
    def name(self) -> str:
        """Folder below ``results/``."""
        return f"fimo_{self.task}"

    @property
    def protocol(self) -> Protocol:
        """Of the task."""
        return PROTOCOLS[self.task]

    @property
    def recipe(self) -> Recipe:
        """Of the final model."""
        return self.protocol.training

    @property
    def flags(self) -> str:
        """The flags by which a stage script is asked for this task."""
        return shlex.join(["--task", self.task])

    def script(self, stage: str) -> str:
        """The script of a stage, from the project's folder."""
        name = "train_final" if stage == "train" else stage
        return f"tda_fimo_scripts/{name}.py"

    def settings(self) -> dict:
        """What a final model depends on, beside its seed and the data."""
        return {"model": self.model, "task": self.task, **self.recipe.settings()}

    def finals(self, train_seeds: Sequence[int] = TRAIN_SEEDS) -> list[Run]:
        """One run for each final model."""
        return [Run(str(seed), init=seed, order=seed) for seed in train_seeds]

    def runs(
        self, train_seeds: Sequence[int] = TRAIN_SEEDS, seeds: Sequence[int] = range(NUM_SEEDS)
    ) -> list[Run]:
        """Further training: each final model in each order of the data."""
        return [
            Run(f"{train_seed}x{seed}", init=train_seed, order=FIRST_ORDER + seed)
            for train_seed in train_seeds
            for seed in seeds
        ]
