"""The grid of the paper (Nguyen et al. 2023) and its constants, each once."""

import re
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.tasks import task
from bayestda.scores import estimators
from bayestda.training.recipe import Recipe

RANDOMNESS = ("init", "batch", "init_only", "crossed", "published")
METHODS = tuple(name for name, entry in estimators.METHODS.items() if entry.standard)
SIGN = {"sign": "positive = helpful"}  # of stored scores whose sign in the paper is the other
OTHER_SIGN = ("ats", "influence")  # these, which had the paper's sign before version 0.2.0
VARIANTS = {  # result folder: stage and flag of what the released code does otherwise
    "loo_published": "loo --variant published",
    "ats_sgd": "ats --optimizer sgd",
    "influence_lissa": "influence --solver lissa",
}
VIT = "google/vit-base-patch16-224-in21k"
CROSSED_SEEDS = 4  # the crossed design is a grid of 4 initialisations x 4 orders


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
class Family:
    """Models of one kind, and the scripts that run them; a further kind is a further entry.

    Attributes:
        train: The script that trains.
        scripts: The folder of the other stages' scripts.
        flag: The flag that chooses the model.
        chosen: Makes that flag's value of the model's name.
        linear_decay: Whether the learning rate falls to 0 over a run.
        settings: What results depend on beside the experiment and its recipe.
    """

    train: str
    scripts: str
    flag: str
    chosen: Callable[[str], str]
    linear_decay: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


def source_flag(source: str) -> str:
    """Return a pretrained model as ``--model`` names it from any folder."""
    return str(paths.local_folder(source) or source)


CNN = Family("train_cnn.py", "tda_cnn_scripts", "--layers", lambda model: model.removeprefix("cnn"))
PRETRAINED_VIT = Family(
    "finetune_vit_lora.py", "tda_vit_scripts", "--model",
    lambda model: source_flag(model.replace("--", "/")),
    linear_decay=True, settings={"lora": asdict(Lora())},
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One training run: the seed of the initial parameters, and that of the order of the data."""

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
        """Read an experiment's name.

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
    def family(self) -> Family:
        """The kind of the model."""
        return CNN if re.fullmatch(r"cnn\d", self.model) else PRETRAINED_VIT

    @property
    def recipe(self) -> Recipe:
        """Hyperparameters of section 4 and the appendix."""
        return Recipe(epochs=task(self.task).epochs, linear_decay=self.family.linear_decay)

    @property
    def flags(self) -> str:
        """The flags by which a stage script is asked for this experiment, as its name tells."""
        return self.flags_with(self.family.flag, self.family.chosen(self.model))

    def flags_with(self, *chosen: str, tf32: bool = False) -> str:
        """Return the flags by which a stage script is asked for this experiment.

        Args:
            chosen: The flags that choose the model.
            tf32: Whether training uses TensorFloat-32, which no name tells.
        """
        common = ["--task", self.task, "--num_per_class", str(self.num_per_class)]
        varying = ["--randomness", self.randomness, *(["--tf32"] if tf32 else [])]
        return shlex.join([*common, *chosen, *varying])

    def script(self, stage: str) -> str:
        """Return a stage's script (``train``, ``loo``, ``ats``, ...), from the project's folder."""
        family = self.family
        return family.train if stage == "train" else f"{family.scripts}/{stage}.py"

    def settings(self) -> dict:
        """Return what a result of this experiment depends on."""
        return {**asdict(self), **self.recipe.settings(), **self.family.settings}

    def runs(self) -> list[Run]:
        """Return all training runs, in the order that ``--seed_id`` counts.

        ``init`` (DE-Init): initialisation and order vary together, as in the released code.
        ``batch`` (DE-Batch): the first seed's initialisation, orders vary.
        ``init_only``: the first seed's order, initialisations vary. ``crossed``: a full grid.
        ``published``: as ``init``, with the orders of the released code.
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
        """Return the seed that all runs share, whatever their names: ``init``, ``order``, none."""
        shared = {"batch": {"init": run.init}, "init_only": {"order": run.order}}
        return shared.get(self.randomness, {})


class Grid(Protocol):
    """What files, commands and errors must know of a system: its names and its recipe."""

    @property
    def name(self) -> str:
        """Folder below ``results/``."""

    @property
    def model(self) -> str:
        """Folder below ``models/``."""

    @property
    def recipe(self) -> Recipe:
        """Hyperparameters of its training."""

    @property
    def flags(self) -> str:
        """The flags by which a stage script is asked for it."""

    def script(self, stage: str, /) -> str:
        """Return the script of a stage, from the project's folder."""

    def settings(self) -> dict:
        """Return what its training depends on."""


ORIGIN = ("data_hash", "tf32", "pretrained", "augment", "init", "order")
"""What a run's training depends on beside :meth:`Experiment.settings`."""


def vit_name(source: str) -> str:
    """Return a pretrained model's name in experiments: ``/`` of a hub id becomes ``--``.

    A local folder is called by its own name, without the folders above it. A hash of its weights
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


def sign_of(method: str) -> dict[str, str]:
    """Return the setting by which files of a method, or of a variant, tell their sign."""
    return SIGN if estimators.base_of(method) in OTHER_SIGN else {}


def seeds() -> list[int]:
    """Read the seeds of ``seeds.txt``, one a line.

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
