"""Systems: everything that the stages must know of a model, its data and its training.

A stage asks a system, and never of which kind it is. A further system is a further class here or,
for final-model-only attribution, in :mod:`bayestda.experiments.stages.final_systems`. Importing
this file does not import torch, so that a help text is fast; data and networks do.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from bayestda.errors import UserError
from bayestda.experiments.flags import count
from bayestda.experiments.grid import RANDOMNESS, VIT, Experiment, Grid, Run, source_flag, vit_name
from bayestda.experiments.tasks import TASKS, task
from bayestda.training.recipe import Recipe

if TYPE_CHECKING:
    import torch

    from bayestda.experiments.data.split import Split
    from bayestda.model.objective import Objective


class System(Grid, Protocol):
    """A model, its data and its training. It is sent to worker processes, so it must pickle."""

    def __hash__(self) -> int: ...

    @property
    def has_dropout(self) -> bool:
        """Whether training draws dropout masks."""

    @property
    def tf32(self) -> bool:
        """Whether training uses TensorFloat-32; scores never do."""

    @property
    def objective(self) -> "Objective":
        """Loss of training, and what is measured."""

    def data(self, device: str, seed: int | None) -> "Split":
        """Load the data of the runs that draw them with a seed.

        Raises:
            UserError: Data or a pretrained model are missing, or not those of the task.
        """

    def data_seed(self, run: Run) -> int | None:
        """Return the seed that a run draws its data with; None: all runs have the same."""

    def network(self, run: Run, split: "Split", device: "torch.device") -> "torch.nn.Module":
        """Build a run's network for its data, with initial parameters drawn on the CPU.

        So a seed means the same on every device.
        """

    def order(self, run: Run, num_train: int, *, continued: bool = False) -> "torch.Tensor":
        """Return the positions of training examples in each epoch of a run [1 E N].

        Args:
            run: The run.
            num_train: N.
            continued: Whether it is for training on from a checkpoint.
        """

    def run_settings(self, run: Run) -> dict:
        """Return what a run's training depends on beside :meth:`settings` and the data."""

    def flags_of(self, run: Run) -> str:
        """Return the flags by which any stage script is asked for this run's results."""

    def forget(self) -> None:
        """Read files of pretrained models anew, as they may have changed."""


@dataclass(frozen=True)
class PaperSystem:
    """A system of the paper's grid (Nguyen et al. 2023): an experiment and how it is trained.

    Attributes:
        experiment: The model, the task, the training set size, and what varies between runs.
        tf32: Whether training uses TensorFloat-32; scores never do.
    """

    experiment: Experiment
    tf32: bool = False
    has_dropout: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Folder below ``results/``."""
        return self.experiment.name

    @property
    def model(self) -> str:
        """Folder below ``models/``."""
        return self.experiment.model

    @property
    def recipe(self) -> Recipe:
        """Hyperparameters of training."""
        return self.experiment.recipe

    @property
    def objective(self) -> "Objective":
        """Cross-entropy, which is also measured."""
        from bayestda.model.losses import Classification

        return Classification()

    @property
    def flags(self) -> str:
        """The flags by which a stage script is asked for this system."""
        return self.experiment.flags_with(*self.chosen(), tf32=self.tf32)

    def chosen(self) -> Sequence[str]:
        """Return the flags that choose the model."""
        raise NotImplementedError

    def flags_of(self, _run: Run) -> str:
        """Return the flags of the system: all runs are asked for together."""
        return self.flags

    def script(self, stage: str, /) -> str:
        """Return the script of a stage, from the project's folder."""
        return self.experiment.script(stage)

    def settings(self) -> dict:
        """Return what training depends on."""
        return {**self.experiment.settings(), "tf32": self.tf32}

    def order(self, run: Run, num_train: int, *, continued: bool = False) -> "torch.Tensor":
        """Return the order that the run's seed draws [1 E N], in training on the same."""
        from bayestda.training.members import data_order

        return data_order(run.order, num_train, self.recipe.epochs)

    def run_settings(self, run: Run) -> dict:
        """Return the run's name, and the seed that all runs share."""
        return {"run": run.name, **self.experiment.held_fixed(run)}

    def data_seed(self, _run: Run) -> int | None:
        """Return None: all runs have the same data."""
        return None

    def forget(self) -> None:
        """Forget nothing, as nothing is pretrained."""

    @classmethod
    def add_flags(cls, parser: ArgumentParser) -> None:
        """Add the flags that choose an experiment."""
        tasks = f"{', '.join(TASKS)}, or the name of a new subset"
        parser.add_argument("--task", default="mnist3", help=tasks)
        parser.add_argument(
            "--num_per_class", type=count, default=10, help="training images per class"
        )
        cls.add_model_flags(parser)
        parser.add_argument(
            "--randomness", choices=RANDOMNESS, default="init",
            help="what differs between runs: initialisation and order (init), order (batch), "
            "initialisation (init_only), both in a full grid (crossed), or both as the released "
            "code draws them (published)",
        )  # fmt: skip
        parser.add_argument("--seed_id", type=int, help="one run, counted from 0; default: all")
        parser.add_argument(
            "--tf32", action="store_true", help="TensorFloat-32 in training, on a GPU"
        )

    @classmethod
    def add_model_flags(cls, parser: ArgumentParser) -> None:
        """Add the flags that choose the model."""
        raise NotImplementedError

    @staticmethod
    def experiment_of(model: str, flags: Namespace) -> Experiment:
        """Return the experiment that flags name.

        Raises:
            UserError: There is no such task.
        """
        task(flags.task)
        return Experiment(model, flags.task, flags.num_per_class, flags.randomness)

    def runs_of(self, flags: Namespace) -> list[Run]:
        """Return the runs that flags choose.

        Raises:
            UserError: There is no such run.
        """
        runs, seed_id = self.experiment.runs(), flags.seed_id
        if seed_id is None:
            return runs
        if not 0 <= seed_id < len(runs):
            raise UserError(
                f"--seed_id {seed_id} does not exist: {self.name} has runs 0 to {len(runs) - 1}"
            )
        return [runs[seed_id]]

    @staticmethod
    def place(flags: Namespace) -> int | None:
        """Return the number of the only run, by which it gets one of several GPUs."""
        return flags.seed_id


@dataclass(frozen=True)
class Cnn(PaperSystem):
    """A CNN with two or three convolutions, trained from scratch."""

    def chosen(self) -> Sequence[str]:
        """Return ``--layers``."""
        return [self.experiment.family.flag, self.experiment.family.chosen(self.model)]

    def data(self, device: str, _seed: int | None) -> "Split":
        """Load normalised images."""
        from bayestda.experiments.data import subsets

        return subsets.load(self.experiment, device)

    def network(self, run: Run, _split: "Split", device: "torch.device") -> "torch.nn.Module":
        """Build the CNN with parameters of the run's seed."""
        from bayestda.experiments import networks

        return networks.build(self.model, self.experiment.task, run.init).to(device)

    def order(self, run: Run, num_train: int, *, continued: bool = False) -> "torch.Tensor":
        """Return the order that the run's seed draws [1 E N], or the released code's."""
        if self.experiment.randomness != "published":
            return super().order(run, num_train, continued=continued)
        from bayestda.experiments import networks
        from bayestda.experiments.published_order import published_order

        return published_order(
            run.order, num_train, self.recipe.epochs, self.recipe.batch_size,
            None if continued else networks.builder(self.model, self.experiment.task),
        )  # fmt: skip

    @classmethod
    def add_model_flags(cls, parser: ArgumentParser) -> None:
        """Add ``--layers``."""
        parser.add_argument("--layers", type=int, choices=(2, 3), default=2, help="convolutions")

    @classmethod
    def of(cls, flags: Namespace) -> "Cnn":
        """Return the system that flags name."""
        return cls(cls.experiment_of(f"cnn{flags.layers}", flags), flags.tf32)


@dataclass(frozen=True)
class VitLora(PaperSystem):
    """A pretrained ViT whose LoRA adapters and head are trained.

    Attributes:
        source: Where its weights are from: a hub id, a local folder, or ``vit_small``.
        augment: ``none``, or random crops of the training images, drawn once for each run.
    """

    source: str = ""
    augment: str = "none"
    has_dropout: ClassVar[bool] = True

    def chosen(self) -> Sequence[str]:
        """Return ``--model`` and, where it is not the default, ``--augment``."""
        augment = ["--augment", self.augment] if self.augment != "none" else []
        return [self.experiment.family.flag, source_flag(self.source), *augment]

    def settings(self) -> dict:
        """Return what training depends on, a hash of the pretrained weights among it."""
        from bayestda.experiments.networks import pretrained

        weights = pretrained.fingerprint(self.source)
        return {**super().settings(), "pretrained": weights, "augment": self.augment}

    def data_seed(self, run: Run) -> int | None:
        """Return the seed of random crops, which is that of the order."""
        return None if self.augment == "none" else run.order

    def data(self, device: str, seed: int | None) -> "Split":
        """Load images as what the adapters see of them."""
        from bayestda.experiments.data import subsets
        from bayestda.experiments.networks import pretrained

        return subsets.load(self.experiment, device, pretrained.Inputs(self.source, device, seed))

    def network(self, run: Run, _split: "Split", device: "torch.device") -> "torch.nn.Module":
        """Build the ViT with adapters and a head of the run's seed."""
        from bayestda.experiments.networks import pretrained

        num_outputs = task(self.experiment.task).num_outputs
        network = pretrained.lora_vit(self.source, run.init, num_outputs)
        return pretrained.moved(network, device)

    def forget(self) -> None:
        """Read the pretrained model anew."""
        from bayestda.experiments.networks import pretrained

        pretrained.forget()

    @classmethod
    def add_model_flags(cls, parser: ArgumentParser) -> None:
        """Add ``--model`` and ``--augment``."""
        parser.add_argument(
            "--model", default=VIT,
            help="hub id or local folder of a ViT image classifier, or vit_small, which comes with "
            "the project; default: %(default)s",
        )  # fmt: skip
        parser.add_argument(
            "--augment", choices=("none", "random_resized_crop"), default="none",
            help="random crops of the training images, drawn once per run",
        )  # fmt: skip

    @classmethod
    def of(cls, flags: Namespace) -> "VitLora":
        """Return the system that flags name."""
        if flags.randomness == "published":
            raise UserError("--randomness published is known for CNNs alone: choose another one")
        experiment = cls.experiment_of(vit_name(flags.model), flags)
        return cls(experiment, flags.tf32, flags.model, flags.augment)
