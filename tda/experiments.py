"""The grid of the paper (Nguyen et al. 2023) and its constants, each once."""

import re
import shlex
from dataclasses import asdict, dataclass
from math import inf
from numbers import Integral
from typing import Protocol

from tda import paths
from tda.errors import UserError

RANDOMNESS = ("init", "batch", "init_only", "crossed")
METHODS = ("loo", "ats", "influence", "grad_dot", "grad_cos")
HELPFUL_SIGN = {"loo": 1, "ats": -1, "influence": -1, "grad_dot": 1, "grad_cos": 1}
VARIANTS = {  # result folder: stage and flag of what the released code does otherwise
    "loo_published": "loo --variant published",
    "ats_sgd": "ats --optimizer sgd",
    "influence_lissa": "influence --solver lissa",
}
VIT = "google/vit-base-patch16-224-in21k"
OPTIMIZERS = ("sgd", "adam", "adamw")
CROSSED_SEEDS = 4  # the crossed design is a grid of 4 initialisations x 4 orders


def helpful_sign(method: str) -> int:
    """Sign of the scores of helpful training examples; a variant has that of its method.

    Raises:
        UserError: the method is unknown.
    """
    base = base_method(method)
    if base is None:
        raise UserError(
            f"the sign of {method!r} is unknown: add it to HELPFUL_SIGN in tda/experiments.py"
        )
    return HELPFUL_SIGN[base]


def base_method(method: str) -> str | None:
    """The method of a variant: ``ats`` of ``ats_sgd``."""
    bases = [base for base in HELPFUL_SIGN if method == base or method.startswith(f"{base}_")]
    return max(bases, key=len, default=None)


@dataclass(frozen=True)
class Task:
    """A classification data set.

    Attributes:
        name: folder under ``data/``.
        classes: labels that occur; every network has ten outputs all the same.
        epochs: length of a training run.
        num_per_class: training subset sizes of the paper, per class.
        mean, std: normalisation of pixels in [0, 1], equal in all channels.
    """

    name: str
    classes: tuple[int, ...]
    epochs: int
    num_per_class: tuple[int, ...]
    mean: float = 0.0
    std: float = 1.0


TASKS = {
    "mnist3": Task("mnist3", (0, 1, 2), 15, (10, 20, 50)),
    "cifar10": Task("cifar10", tuple(range(10)), 30, (10, 20, 50, 30, 40, 60), 0.5, 0.5),
    "mnist": Task("mnist", tuple(range(10)), 15, (6000,)),
    "cifar10full": Task("cifar10full", tuple(range(10)), 30, (5000,), 0.5, 0.5),
}


def task(name: str) -> Task:
    """The task of a name; ``mnist3s7`` is a fresh subset of mnist3, drawn with seed 7.

    Raises:
        UserError: no such task.
    """
    base = re.fullmatch(rf"({'|'.join(TASKS)})(s[0-9]{{1,18}})?", name)
    if base:
        return TASKS[base[1]]
    raise UserError(f"unknown task {name!r}: choose one of {', '.join(TASKS)}")


@dataclass(frozen=True)
class Recipe:
    """How one model is trained: Adam or SGD on the mean loss of each batch.

    Attributes:
        epochs, batch_size: passes over the data; the last batch of a pass may be smaller.
        lr: learning rate, constant or (``linear_decay``) falling to 0 over the run.
        weight_decay: L2 coefficient, added to the gradient (not decoupled).
        optimizer: ``adam``, ``sgd`` or ``adamw``, in which weight decay is decoupled.
        keep: checkpoints after each of the last ``keep`` epochs are samples of the posterior; of
            all epochs, if there are fewer.
        momentum, nesterov: of ``sgd``, as PyTorch defines them.
        clip: largest norm of a step's gradient; None: any.

    Raises:
        UserError: a number that cannot be, an unknown optimiser, or momentum for one that has
            moments of its own.
    """

    epochs: int
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 5e-3
    optimizer: str = "adam"
    linear_decay: bool = False
    keep: int = 5
    momentum: float = 0.0
    nesterov: bool = False
    clip: float | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "keep"):
            count = getattr(self, name)
            if not isinstance(count, Integral) or count < 1:
                raise UserError(f"{name}={count!r} must be a whole number, at least 1")
        if not 0 <= self.lr < inf:
            raise UserError(f"lr={self.lr!r} must be a finite number, not below 0")
        if self.optimizer not in OPTIMIZERS:
            raise UserError(
                f"optimizer={self.optimizer!r} is unknown: choose one of {', '.join(OPTIMIZERS)}"
            )
        if self.momentum and self.optimizer != "sgd":
            raise UserError(
                f"momentum={self.momentum} is of optimizer='sgd', not of {self.optimizer!r}"
            )

    def settings(self) -> dict:
        """What a result depends on; fields that came later are left out where they do nothing."""
        own, plain = asdict(self), {"momentum": 0.0, "nesterov": False, "clip": None}
        return {name: value for name, value in own.items() if plain.get(name, ...) != value}

    @property
    def kept_epochs(self) -> list[int]:
        """Epochs, counted from 1, after which a run's parameters are a sample."""
        return list(range(max(1, self.epochs - self.keep + 1), self.epochs + 1))

    def learning_rates(self, num_train: int) -> list[float]:
        """η of every step of a run."""
        total = self.epochs * -(-num_train // self.batch_size)
        return [self.lr * (1 - step / total if self.linear_decay else 1) for step in range(total)]

    def recorded(self, num_train: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """η at the kept checkpoints, and Σ_t η_t up to them."""
        per_epoch, rates = -(-num_train // self.batch_size), self.learning_rates(num_train)
        ends = [epoch * per_epoch for epoch in self.kept_epochs]
        return tuple(rates[end - 1] for end in ends), tuple(sum(rates[:end]) for end in ends)


@dataclass(frozen=True)
class Lora:
    """Low-rank adaptation (Hu et al. 2022): W x becomes W x + (alpha / r) B A dropout(x).

    Attributes:
        r: rank of B A.
        alpha: see the equation.
        dropout: probability; on in training, off in every score.
    """

    r: int = 16
    alpha: int = 16
    dropout: float = 0.1


@dataclass(frozen=True)
class Run:
    """One training run: which seed draws the initial parameters, which the order of the data."""

    name: str
    init: int
    order: int


@dataclass(frozen=True)
class Experiment:
    """A model, a task, a training set size, and what varies between runs.

    The model is ``cnn2``, ``cnn3`` or the name of a pretrained ViT (:func:`vit_name`).
    """

    model: str
    task: str
    num_per_class: int
    randomness: str = "init"

    @property
    def name(self) -> str:
        """``<model>_<task>_<n>pc[_<randomness>]``; DE-Init, the released default, has no suffix."""
        suffix = "" if self.randomness == "init" else f"_{self.randomness}"
        return f"{self.model}_{self.task}_{self.num_per_class}pc{suffix}"

    @classmethod
    def parse(cls, name: str) -> "Experiment":
        """The experiment of a name.

        Raises:
            UserError: the name does not follow the pattern.
        """
        pattern = (
            rf"([\w.-]{{1,100}})_([a-z0-9]{{1,30}})_(\d{{1,9}})pc(?:_({'|'.join(RANDOMNESS)}))?"
        )
        match = re.fullmatch(pattern, name)
        if not match:
            raise UserError(
                f"{name!r} is no experiment: names are <model>_<task>_<n>pc[_<randomness>], "
                "for example cnn2_mnist3_10pc"
            )
        return cls(match[1], match[2], int(match[3]), match[4] or "init")

    @property
    def num_train(self) -> int:
        """N: training images, as the name tells; a list may have some more or fewer."""
        return self.num_per_class * len(task(self.task).classes)

    @property
    def family(self) -> str:
        """``cnn`` or ``vit``: which scripts run it."""
        return "cnn" if re.fullmatch(r"cnn\d", self.model) else "vit"

    @property
    def recipe(self) -> Recipe:
        """Hyperparameters of section 4 and the appendix."""
        return Recipe(epochs=task(self.task).epochs, linear_decay=self.family == "vit")

    @property
    def flags(self) -> str:
        """The flags by which a stage script is asked for this experiment, as its name tells."""
        return self.flags_of(self.source)

    def flags_of(self, source: str, augment: str = "none", tf32: bool = False) -> str:
        """The flags by which a stage script is asked for this experiment.

        Args:
            source: of the pretrained model: hub id, local folder, or ``vit_small``.
            augment, tf32: flags that are part of a result's settings, but not of its name.
        """
        source = str(paths.local_folder(source) or source)
        own = {
            "cnn": ["--layers", self.model[3:]],
            "vit": ["--model", source, *(["--augment", augment] if augment != "none" else [])],
        }[self.family]
        common = ["--task", self.task, "--num_per_class", str(self.num_per_class)]
        varying = ["--randomness", self.randomness, *(["--tf32"] if tf32 else [])]
        return shlex.join([*common, *own, *varying])

    @property
    def source(self) -> str:
        """Where a pretrained model comes from, as far as its name tells: see :func:`vit_name`."""
        return self.model.replace("--", "/")

    def script(self, stage: str) -> str:
        """The script of a stage (``train``, ``loo``, ``ats``, ...), from the project's folder."""
        if stage == "train":
            return {"cnn": "train_cnn.py", "vit": "finetune_vit_lora.py"}[self.family]
        return f"tda_{self.family}_scripts/{stage}.py"

    def settings(self) -> dict:
        """What a result of this experiment depends on."""
        adapters = {"lora": asdict(Lora())} if self.family == "vit" else {}
        return {**asdict(self), **self.recipe.settings(), **adapters}

    def runs(self) -> list[Run]:
        """All training runs, in the order that ``--seed_id`` counts.

        ``init`` (DE-Init): initialisation and order vary together, as in the released code.
        ``batch`` (DE-Batch): the first seed's initialisation, orders vary.
        ``init_only``: the first seed's order, initialisations vary. ``crossed``: a full grid.
        """
        all_seeds = seeds()
        if self.randomness == "crossed":
            grid = all_seeds[:CROSSED_SEEDS]
            return [Run(f"{init}x{order}", init, order) for init in grid for order in grid]
        return [
            Run(
                str(seed),
                init=all_seeds[0] if self.randomness == "batch" else seed,
                order=all_seeds[0] if self.randomness == "init_only" else seed,
            )
            for seed in all_seeds
        ]

    def held_fixed(self, run: Run) -> dict[str, int]:
        """The seed that all runs share, whatever their names: ``init`` or ``order``, or none."""
        shared = {"batch": {"init": run.init}, "init_only": {"order": run.order}}
        return shared.get(self.randomness, {})


class Grid(Protocol):
    """What the runner, checkpoints and errors must know of a system: its names and its runs."""

    @property
    def name(self) -> str:
        """Folder below ``results/``."""

    @property
    def model(self) -> str:
        """Folder below ``models/``."""

    @property
    def recipe(self) -> Recipe:
        """Of its training."""

    @property
    def flags(self) -> str:
        """The flags by which a stage script is asked for it."""

    def script(self, stage: str, /) -> str:
        """The script of a stage, from the project's folder."""

    def settings(self) -> dict:
        """What its training depends on."""


ORIGIN = ("data_hash", "tf32", "pretrained", "augment", "init", "order")
"""What a run's training depends on beside :meth:`Experiment.settings`."""


def vit_name(source: str) -> str:
    """A pretrained model's name in experiments: ``/`` of a hub id becomes ``--``.

    A local folder is called by its own name, without the folders above it; what its weights are
    is part of every result's settings.

    Raises:
        UserError: the name would not be one of a ViT, or has letters that no file name should.
    """
    folder = paths.local_folder(source)
    if folder is None and (source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise UserError(
            f"--model {source!r} is no folder here: give a local folder that exists, a hub id such "
            f"as {VIT}, or vit_small, which comes with the project"
        )
    name = folder.name if folder else source.replace("/", "--")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,99}", name) or re.fullmatch(r"cnn\d", name):
        raise UserError(
            f"--model {source!r} gives the name {name!r}: rename the folder to letters, digits, "
            "'-', '.' and '_', not beginning with a mark, and not like a CNN"
        )
    return name


PAPER_GRID = (
    *(Experiment("cnn2", "mnist3", n) for n in (10, 20, 50)),  # experiments 1-3
    *(Experiment("cnn2", "cifar10", n) for n in (10, 20, 50)),  # 4-6
    Experiment("cnn2", "mnist3", 50, "batch"),  # 7
    Experiment("cnn2", "cifar10", 50, "batch"),  # 8
    Experiment("cnn3", "mnist3", 50),
    Experiment("cnn3", "cifar10", 50),
)
VIT_GRID = (
    Experiment(vit_name(VIT), "mnist3", 50, "batch"),  # 9
    Experiment(vit_name(VIT), "cifar10", 50, "batch"),  # 10
)
VIT_SMALL_GRID = tuple(
    Experiment("vit_small", task_name, size, randomness)
    for task_name, size in (("mnist3", 10), ("mnist3", 50), ("cifar10", 10))
    for randomness in ("init", "batch")
)


def seeds() -> list[int]:
    """The seeds of ``seeds.txt``, one a line.

    Raises:
        UserError: the file is missing, has a line that is no number or empty, or a seed twice.
    """
    try:
        found = [int(line) for line in paths.SEEDS.read_text().rstrip("\n").split("\n")]
    except (OSError, ValueError) as error:
        raise UserError(
            f"{paths.SEEDS} cannot be read as one whole number a line ({error}): "
            "restore it with `git checkout seeds.txt`"
        ) from error
    if len(found) < 2 or len(set(found)) < len(found) or not 0 <= min(found) <= max(found) < 2**32:
        raise UserError(
            f"{paths.SEEDS} must name at least two different seeds from 0 to 2^32 - 1, one a line"
        )
    return found
