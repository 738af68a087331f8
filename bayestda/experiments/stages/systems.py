"""Tasks of final-model-only attribution as the stages see them: data, objective, network."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from bayestda.experiments.data import sentences, subsets, tables
from bayestda.experiments.final_models import FinalModels
from bayestda.experiments.networks import bert
from bayestda.experiments.networks.mlp import mlp
from bayestda.experiments.networks.resnet9 import resnet9
from bayestda.model.losses import Classification, Regression
from bayestda.model.measurements import confident_loss
from bayestda.model.objective import Objective

CLASSES = Classification(confident_loss)


@dataclass(frozen=True, eq=False)
class System:
    """A task as the stages see it; a further one is a further entry of ``SYSTEMS``.

    Attributes:
        split: with ``train``, ``test`` and ``hash``.
        objective: of training, and what is measured.
        build: makes the network with random parameters, or pretrained ones and a random head.
        settings: what results depend on beside the task's protocol and data.
    """

    split: Any
    objective: Objective
    build: Callable[[], nn.Module]
    settings: dict = field(default_factory=dict)


def system(models: FinalModels, device: str) -> System:
    """The system of a task, its data on a device.

    Raises:
        UserError: data or a pretrained model are missing, or not those of the task.
    """
    return SYSTEMS[models.task](models, device)


def _tabular(models: FinalModels, device: str) -> System:
    table, split = tables.TABLES[models.rows], tables.load(models.rows, device)
    split = split.first(models.protocol.num_train, models.protocol.num_test)
    sizes = split.train.x.shape[1], table.num_outputs
    return System(
        split,
        Regression() if table.regression else CLASSES,
        lambda: mlp(*sizes),
    )


def _images(models: FinalModels, device: str) -> System:
    """All of CIFAR-10, or (reduced) the images that come with the project."""
    protocol = models.protocol
    name = "cifar10full" if protocol.num_train is None else "cifar10"
    split = subsets.load_shuffled(name, protocol.num_train, protocol.num_test, device)
    width = protocol.width
    return System(split, CLASSES, lambda: resnet9(width=width), {"width": width})


def _text(models: FinalModels, device: str) -> System:
    protocol, source = models.protocol, models.pretrained
    tokens = bert.tokenizer(source)
    split = sentences.load(tokens, protocol.num_train, protocol.num_test, device)
    return System(
        split,
        CLASSES,
        lambda: bert.text_classifier(source, lora=models.lora),
        {"pretrained": bert.fingerprint(source)},
    )


SYSTEMS: dict[str, Callable[[FinalModels, str], System]] = {
    **dict.fromkeys((*tables.TABLES, "heloc_reduced", "adult_reduced"), _tabular),
    **dict.fromkeys(("cifar10", "cifar10_reduced"), _images),
    **dict.fromkeys(("sst2", "sst2_reduced"), _text),
}
