"""The image tasks: everything that the project knows about a task stands in its entry here.

A new task is one more entry of :data:`TASKS`; docs/extending.md has an example.
"""

import re
from dataclasses import dataclass

from bayestda.errors import UserError


@dataclass(frozen=True)
class Task:
    """A data set of labelled images.

    Attributes:
        name: Folder under ``data/``, in lower-case letters and digits.
        title: Name in figures.
        classes: Labels that occur.
        shape: Height, width and channels of an image; 1 channel (grey) or 3 (RGB).
        num_outputs: K of the networks. It may exceed the number of classes.
        epochs: Length of a training run.
        num_per_class: Sizes of the training subsets, in images per class.
        mean, std: Normalisation of pixels in [0, 1], equal in all channels.
        label_names: Names of the labels 0, 1, ...; empty: the numbers themselves.
        hub: Data set's id on the Hugging Face hub; "": it is not there.
        torchvision: Class in ``torchvision.datasets``; "": there is none.
        lists: Pattern of the index lists that come with the project.
        test_list: File of test images among them, without suffix.
        whole: Whether the training set is all of a data set, with one size in num_per_class.
        drawn_as: Task whose name ``data/prepare.py --new_subset`` takes for these images.
    """

    name: str
    title: str
    classes: tuple[int, ...]
    shape: tuple[int, int, int]
    num_outputs: int
    epochs: int
    num_per_class: tuple[int, ...]
    mean: float = 0.0
    std: float = 1.0
    label_names: tuple[str, ...] = ()
    hub: str = ""
    torchvision: str = ""
    lists: str = "t*_subset*.txt"
    test_list: str = "test_subset"
    whole: bool = False
    drawn_as: str = ""

    @property
    def output_names(self) -> list[str]:
        """Names of the K outputs of a network."""
        names = dict(enumerate(self.label_names))
        return [names.get(output, str(output)) for output in range(self.num_outputs)]


_CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
                   "truck")  # fmt: skip

# The paper's head is ten-way for MNIST3 as well, so that seven outputs have no class there.
TASKS = {
    task.name: task
    for task in (
        Task(
            "mnist3", "MNIST3", (0, 1, 2), (28, 28, 1), 10, 15, (10, 20, 50),
            hub="ylecun/mnist", torchvision="MNIST",
        ),
        Task(
            "cifar10", "CIFAR10", tuple(range(10)), (32, 32, 3), 10, 30, (10, 20, 50, 30, 40, 60),
            0.5, 0.5, _CIFAR10_LABELS, hub="uoft-cs/cifar10", torchvision="CIFAR10",
        ),
        Task(
            "mnist", "MNIST", tuple(range(10)), (28, 28, 1), 10, 15, (6000,),
            hub="ylecun/mnist", torchvision="MNIST", whole=True,
            lists="full_mnist_analysis_*.txt", test_list="full_mnist_analysis_test",
        ),
        Task(
            "cifar10full", "all of CIFAR10", tuple(range(10)), (32, 32, 3), 10, 30, (5000,),
            0.5, 0.5, _CIFAR10_LABELS, hub="uoft-cs/cifar10", torchvision="CIFAR10", whole=True,
            drawn_as="cifar10",
        ),
    )
}  # fmt: skip


def task(name: str) -> Task:
    """Return the task of a name; ``mnist3s7`` is a fresh subset of mnist3, drawn with seed 7.

    Raises:
        UserError: There is no such task.
    """
    found = parse(name)
    if found:
        return found[0]
    raise UserError(f"unknown task {name!r}: choose one of {', '.join(TASKS)}")


def parse(name: str) -> tuple[Task, str] | None:
    """Split a name into its task and the seed of a fresh subset ("": none); None: no such task."""
    match = re.fullmatch(rf"({'|'.join(map(re.escape, TASKS))})(?:s([0-9]{{1,18}}))?", name)
    return (TASKS[match[1]], match[2] or "") if match else None


def title(name: str) -> str:
    """Return what figures call a task; a fresh subset keeps its own name."""
    return TASKS[name].title if name in TASKS else name
