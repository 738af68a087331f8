"""The protocol of final-model-only attribution (Wei et al. 2025, table 1), each constant once."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.grid import Lora, Run, source_flag, vit_name
from bayestda.training.recipe import Recipe

TRAIN_SEEDS = tuple(range(6))  # final models; the paper has one
NUM_SEEDS = 10  # orders of further training by default; the paper has 100
FIRST_ORDER = 1000  # seed of the first order: no final model was trained in one of these
BERT = "google-bert/bert-base-uncased"
LORA_RATE = 10.0  # learning rates of adapters, relative to those of all parameters
_MARKS = (1, 2, 3, 5, 7)


@dataclass(frozen=True)
class Protocol:
    """The training of a task's final model, and its further training.

    Attributes:
        training: of the final model.
        further: by optimiser.
        num_left_out: l, the first training examples of the (shuffled) split.
        num_evaluated: m, the first test examples; None: all.
        num_train, num_test: examples that are used, the first of each split; None: all.
        every: steps of further training from one measurement to the next; None: see
            :func:`evaluated_epochs`.
        best: the final model is that of the epoch with the highest accuracy on the test split
            (its first, of several); else of the last epoch.
        width: channels of a ResNet-9's first convolution.
        source: pretrained model: hub id, local folder, or ``minilm``; "": none.
        train_seeds: final models, unless others are asked for.
        num_seeds: orders of further training, unless other numbers are asked for.
        small: whether N·K and the network are so small that methods may cost (N·K)² numbers, or
            hundreds of products with a curvature for each test example; else these are not among
            the default ones.
    """

    training: Recipe
    further: dict[str, Recipe]
    num_left_out: int = 100
    num_evaluated: int | None = None
    num_train: int | None = None
    num_test: int | None = None
    every: int | None = None
    best: bool = False
    width: int = 64
    source: str = ""
    train_seeds: tuple[int, ...] = TRAIN_SEEDS
    num_seeds: int = NUM_SEEDS
    small: bool = True

    def optimizer(self, asked: str | None) -> str:
        """Return the optimiser of further training that is asked for; None: the first one.

        Raises:
            UserError: the protocol has no such one.
        """
        if asked is not None and asked not in self.further:
            raise UserError(
                f"this task is not trained further with {asked}: leave out --optimizer, or choose "
                f"one of {', '.join(self.further)}"
            )
        return asked or next(iter(self.further))

    def measured(self, recipe: Recipe, num_train: int) -> list[int]:
        """Return the steps after which further training is measured, 0 and the last among them."""
        per_epoch = -(-num_train // recipe.batch_size)
        if self.every is None:
            return [per_epoch * epoch for epoch in evaluated_epochs(recipe.epochs)]
        last = per_epoch * recipe.epochs
        return sorted({*range(0, last, self.every), last})

    def with_lora(self) -> "Protocol":
        """Return the protocol with adapters, which take higher rates (ours: the paper has none)."""
        further = {name: replace(own, lr=LORA_RATE * own.lr) for name, own in self.further.items()}
        training = replace(self.training, lr=LORA_RATE * self.training.lr)
        return replace(self, training=training, further=further)


def _tabular(
    rate: float, epochs: int, further: Recipe, adam: float, evaluated: int | None, **sizes: Any
) -> Protocol:
    training = Recipe(epochs, 128, rate, 0.0, "sgd", keep=1)
    adaptive = {name: replace(further, optimizer=name, lr=adam) for name in ("adam", "adamw")}
    return Protocol(training, {"sgd": further, **adaptive}, num_evaluated=evaluated, **sizes)


def _further(rate: float, epochs: int) -> Recipe:
    return Recipe(epochs, 128, rate, 0.0, "sgd", keep=1)


def _images(training: Recipe, further: Recipe, **sizes: Any) -> Protocol:
    return Protocol(training, {"sgd": further}, train_seeds=TRAIN_SEEDS[:1], **sizes)


def _text(training: Recipe, further: Recipe, source: str, every: int, **sizes: Any) -> Protocol:
    return Protocol(
        training, {"adamw": further}, every=every, source=source, best=True,
        train_seeds=TRAIN_SEEDS[:1], **sizes,
    )  # fmt: skip


def _sgd(epochs: int, batch_size: int, rate: float, decaying: bool = False) -> Recipe:
    return Recipe(epochs, batch_size, rate, 1e-3, "sgd", linear_decay=decaying, keep=1)


def _adamw(epochs: int, batch_size: int, rate: float) -> Recipe:
    return Recipe(epochs, batch_size, rate, 1e-2, "adamw", keep=1, clip=1.0)


PROTOCOLS = {
    "concrete": _tabular(0.3, 1000, _further(3e-2, 500), 1e-4, None),
    "energy": _tabular(0.3, 1000, _further(3e-2, 500), 1e-4, None),
    "heloc": _tabular(1e-3, 1000, _further(1e-4, 200), 1e-6, 100, small=False),
    "adult": _tabular(1e-2, 100, _further(1e-4, 25), 1e-6, 100, small=False),
    "heloc_reduced": _tabular(
        1e-2, 900, _further(1e-3, 200), 1e-5, 50, num_train=1000, num_test=100
    ),
    "adult_reduced": _tabular(
        0.1, 600, _further(3e-3, 50), 3e-5, 50, num_train=500, num_test=100
    ),
    "folktables": _tabular(1e-2, 100, _further(1e-4, 25), 1e-6, 100, small=False),
    "cifar10": _images(
        _sgd(24, 512, 0.4, True), _sgd(10, 512, 0.04), num_left_out=50, num_evaluated=100,
        small=False,
    ),
    "cifar10_reduced": _images(
        _sgd(24, 64, 0.1, True), _sgd(3, 64, 0.01), num_left_out=16, num_evaluated=100,
        num_train=1000, num_test=500, width=16, num_seeds=5, small=False,
    ),
    "sst2": _text(
        _adamw(30, 64, 1e-5), _adamw(1, 64, 1e-6), BERT, 5, num_left_out=50, num_evaluated=100,
        small=False,
    ),
    "sst2_reduced": _text(
        _adamw(5, 32, 1e-4), _adamw(1, 32, 1e-5), "minilm", 1, num_left_out=8, num_evaluated=40,
        num_train=128, num_test=100, num_seeds=3, small=False,
    ),
}  # fmt: skip
"""``*_reduced`` run on a CPU in minutes: fewer examples, a narrower ResNet-9, a smaller encoder.
Of tables they have the horizons ηT of the whole task, by larger rates and fewer steps."""


def evaluated_epochs(last: int) -> list[int]:
    """Return the epochs to measure further training after: 0, 1, 2, 3, 5, 7, 10, 20, ..., last."""
    marks = [mark * 10**power for power in range(len(str(last))) for mark in _MARKS]
    return [0, *(mark for mark in marks if mark < last), last]


@dataclass(frozen=True)
class FinalModels:
    """Final models of a task, one for each training seed, and further training of each.

    Attributes:
        task: a name of ``PROTOCOLS``.
        source: another pretrained model than the task's own.
        lora: train adapters of the pretrained model, not all of it.

    Raises:
        UserError: no such task, or it has no pretrained model, or its folder is missing.
    """

    task: str
    source: str = ""
    lora: bool = False

    def __post_init__(self) -> None:
        if self.task not in PROTOCOLS:
            raise UserError(f"unknown task {self.task!r}: choose one of {', '.join(PROTOCOLS)}")
        if not PROTOCOLS[self.task].source and (self.source or self.lora):
            raise UserError(
                f"task {self.task} has no pretrained model: leave out --model and --lora, or "
                "take --task sst2"
            )
        local = self.source.startswith((".", "/", "~")) or self.source.count("/") > 1
        if local and not paths.local_folder(self.source):
            raise UserError(
                f"--model {self.source!r} is no folder here: give a local folder that exists, a "
                f"hub id such as {BERT}, or minilm"
            )

    @property
    def model(self) -> str:
        """Folder below ``models/``."""
        return "fimo"

    @property
    def name(self) -> str:
        """Folder below ``results/``."""
        own = f"_{vit_name(self.source)}" if self._other_source else ""
        return f"fimo_{self.task}{own}{'_lora' if self.lora else ''}"

    @property
    def rows(self) -> str:
        """The tabular task whose rows are used."""
        return self.task.removesuffix("_reduced")

    @property
    def protocol(self) -> Protocol:
        """The task's protocol."""
        protocol = PROTOCOLS[self.task]
        return protocol.with_lora() if self.lora else protocol

    @property
    def pretrained(self) -> str:
        """The pretrained model, or "" of tasks without one."""
        return self.source or self.protocol.source

    @property
    def _other_source(self) -> bool:
        return self.source not in ("", PROTOCOLS[self.task].source)

    @property
    def recipe(self) -> Recipe:
        """Hyperparameters of the final model."""
        return self.protocol.training

    @property
    def flags(self) -> str:
        """The flags by which a stage script is asked for this task."""
        own = ["--model", source_flag(self.source)] if self._other_source else []
        return shlex.join(["--task", self.task, *own, *(["--lora"] if self.lora else [])])

    def script(self, stage: str) -> str:
        """Return the script of a stage, from the project's folder."""
        name = "train_final" if stage == "train" else stage
        return f"tda_fimo_scripts/{name}.py"

    def settings(self) -> dict:
        """Return what a final model depends on, beside its seed and the data."""
        adapters = {"lora": asdict(Lora())} if self.lora else {}
        return {"model": self.model, "task": self.task, **self.recipe.settings(), **adapters}

    def finals(self, train_seeds: Sequence[int] | None = None) -> list[Run]:
        """Return one run for each final model; None: the protocol's."""
        chosen = self.protocol.train_seeds if train_seeds is None else train_seeds
        return [Run(str(seed), init=seed, order=seed) for seed in chosen]

    def runs(
        self, train_seeds: Sequence[int] | None = None, seeds: Sequence[int] | None = None
    ) -> list[Run]:
        """Return each final model in each order of the data; None: the protocol's."""
        orders = range(self.protocol.num_seeds) if seeds is None else seeds
        return [
            Run(f"{final.init}x{seed}", init=final.init, order=FIRST_ORDER + seed)
            for final in self.finals(train_seeds)
            for seed in orders
        ]
