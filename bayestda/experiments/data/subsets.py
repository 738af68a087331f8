"""Training and test subsets of a task, as tensors.

Importing this file does not import torch, so that figures start fast; :func:`load` does.
"""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bayestda.errors import UserError
from bayestda.experiments import paths, tasks
from bayestda.experiments.data.images import (
    Images,
    fingerprint,
    prepare_command,
    read_images,
    read_index_list,
)
from bayestda.experiments.data.split import Split
from bayestda.experiments.grid import Experiment
from bayestda.experiments.tasks import Task

if TYPE_CHECKING:
    from torch import Tensor

    from bayestda.model.examples import Data

__all__ = ["Images", "Split", "load", "read_images", "read_index_list"]


Inputs = Callable[[np.ndarray, str], tuple["Tensor", np.ndarray | None]]


def load(experiment: Experiment, device: str = "cpu", inputs: Inputs | None = None) -> Split:
    """Load the training and test subset of an experiment as tensors.

    Args:
        experiment: Experiment, which names the task and the training subset.
        device: Device of the tensors.
        inputs: Function from uint8 pixels and the split's name to x and crops; None: normalised
            pixels.

    Raises:
        UserError: Data are missing, damaged, or not those of the task; unknown subset size.
    """
    task = tasks.task(experiment.task)
    train, test = _subset(experiment, "train"), _subset(experiment, "test")
    if train.exact != test.exact:
        raise UserError(
            f"{paths.data(experiment.task)} mixes original and JPEG images: "
            f"run `{prepare_command(experiment.task)}`"
        )
    return Split(
        train=_tensors(train, "train", device, inputs or _normalised(task, device)),
        test=_tensors(test, "test", device, inputs or _normalised(task, device)),
        hash=fingerprint(train, test)[:16],
        exact=train.exact,
    )


def load_shuffled(
    name: str, num_train: int | None = None, num_test: int | None = None, device: str = "cpu"
) -> Split:
    """Load the first images of a fixed shuffle of a task's files, without index lists.

    Args:
        name: Name of the task.
        num_train, num_test: Numbers of images of each split; None: all.
        device: Device of the tensors.

    Raises:
        UserError: Files are missing or damaged, or hold fewer images.
    """
    task = tasks.task(name)
    train, test = _shuffled(name, "train", num_train), _shuffled(name, "test", num_test)
    inputs = _normalised(task, device)
    return Split(
        _tensors(train, "train", device, inputs), _tensors(test, "test", device, inputs),
        fingerprint(train, test)[:16], train.exact and test.exact,
    )  # fmt: skip


def _shuffled(name: str, split: str, count: int | None) -> Images:
    images = read_images(_file(name, split))
    _check(images, tasks.task(name), f"{paths.images(name, split)}")
    places = first_shuffled(len(images.label), count, f"{split} images of task {name}")
    return replace(
        images, pixels=images.pixels[places], label=images.label[places],
        index=images.index[places],
    )  # fmt: skip


def first_shuffled(available: int, count: int | None, what: str) -> np.ndarray:
    """Return the places of the first examples of a fixed shuffle; None: of all.

    Raises:
        UserError: There are not that many.
    """
    if count is not None and count > available:
        raise UserError(f"there are {available} {what}, not {count}: prepare the whole data set")
    return np.random.RandomState(0).permutation(available)[:count]


def _file(name: str, split: str) -> Path:
    """Return the image file of one split, which must exist."""
    path = paths.images(name, split)
    if not path.exists():
        raise UserError(
            f"images of task {name} are missing ({path}): make them with `{prepare_command(name)}`"
        )
    return path


def _subset(experiment: Experiment, split: str) -> Images:
    """Read the images of one split in the order of the index list, and check them."""
    name = experiment.task
    num_per_class = experiment.num_per_class if split == "train" else None
    path = _file(name, split)
    numbers = paths.index_list(name, num_per_class)
    if split == "train" and not numbers.exists():
        raise UserError(_no_such_size(experiment))
    images = read_images(path, read_index_list(numbers))
    _check(images, tasks.task(name), f"{path} (run `{prepare_command(name)}`)")
    return images


def _check(images: Images, task: Task, where: str) -> None:
    shape = (*images.pixels.shape[1:], 1)[:3]  # grey images have no dimension of channels
    if shape != task.shape:
        raise UserError(f"{where} has images of shape {shape}, {task.name} has {task.shape}")
    foreign = np.setdiff1d(images.label, task.classes)
    if len(foreign):
        raise UserError(
            f"{where} has the label {foreign[0]}, {task.name} has {task.classes}: "
            "the index list and the images do not belong together"
        )


def _no_such_size(experiment: Experiment) -> str:
    """Return the message for a subset size without an index list."""
    name, size = experiment.task, experiment.num_per_class
    lists = paths.data(name).glob("train_subset_*pc.txt")
    sizes = sorted(int(file.stem.removeprefix("train_subset_")[:-2]) for file in lists)
    base = tasks.task(name).name
    unused = next(seed for seed in itertools.count(1) if not paths.data(f"{base}s{seed}").exists())
    return (
        f"task {name} has no training subset of {size} per class, only of "
        f"{', '.join(map(str, sizes)) or 'none'}: draw one with `{prepare_command(base)} "
        f"--new_subset {unused} --num_per_class {size}` and name the task {base}s{unused}"
    )


def _tensors(images: Images, split: str, device: str, inputs: Inputs) -> "Data":
    import torch

    from bayestda.model.examples import Data

    x, crops = inputs(images.pixels, split)
    return Data(x, torch.tensor(images.label, device=device), images.index, crops)


def _normalised(task: Task, device: str) -> Inputs:
    """Return the function that makes a CNN's inputs."""
    import torch

    def inputs(pixels: np.ndarray, _split: str) -> tuple["Tensor", None]:
        pixels_NCHW = pixels.reshape(*pixels.shape[:3], -1).transpose(0, 3, 1, 2)
        x_NCHW = torch.tensor(np.ascontiguousarray(pixels_NCHW), device=device).float().div(255)
        return x_NCHW.sub(task.mean).div(task.std), None

    return inputs
