"""The image tasks of the papers, each once."""

import re
from dataclasses import dataclass

from bayestda.errors import UserError


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
