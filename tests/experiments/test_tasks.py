"""An image task's entry is all that names, networks and data need to know."""

from dataclasses import replace

import pytest
import torch

from bayestda.errors import UserError
from bayestda.experiments import networks, tasks
from bayestda.experiments.data import sources
from bayestda.experiments.data.images import prepare_command


@pytest.fixture
def entry(monkeypatch):
    """Add a task of tall grey images; a function that changes it."""

    def added(**changes):
        task = replace(tasks.TASKS["mnist3"], name="tall", title="Tall", hub="", torchvision="")
        monkeypatch.setitem(tasks.TASKS, "tall", replace(task, **changes))

    added()
    return added


def test_a_fresh_subset_is_of_its_task_and_keeps_its_name():
    assert tasks.task("cifar10fulls12") is tasks.TASKS["cifar10full"]
    assert tasks.parse("mnist3s7") == (tasks.TASKS["mnist3"], "7")
    assert tasks.title("mnist3") == "MNIST3"
    assert tasks.title("mnist3s7") == "mnist3s7"
    with pytest.raises(UserError, match="unknown task 'mnist4'"):
        tasks.task("mnist4")


def test_outputs_without_a_name_are_called_by_their_number(entry):
    entry(label_names=("nought", "one"), num_outputs=4)
    assert tasks.task("tall").output_names == ["nought", "one", "2", "3"]


@pytest.mark.parametrize("model", ["cnn2", "cnn3"])
@pytest.mark.parametrize("shape", [(40, 28, 1), (12, 17, 3), (33, 64, 3)])
def test_networks_take_the_shape_and_the_outputs_of_the_entry(entry, model, shape):
    entry(shape=shape, num_outputs=5)
    height, width, channels = shape
    images = torch.zeros(2, channels, height, width)
    assert networks.build(model, "tall", 0)(images).shape == (2, 5)


def test_images_that_are_too_small_are_one_sentence(entry):
    entry(shape=(9, 28, 1))
    with pytest.raises(UserError, match="9 × 28 pixels, are too small"):
        networks.build("cnn2", "tall", 0)


@pytest.mark.parametrize("source", ["hub", "torchvision"])
@pytest.mark.usefixtures("entry")
def test_a_task_that_is_not_there_is_not_asked_for(source):
    with pytest.raises(UserError, match=f"task tall has no data set there .*{source}"):
        sources.read(source, "tall", "train")
    assert prepare_command("talls3") == (
        "python data/prepare.py --task tall --source FOLDER --new_subset 3"
    )
