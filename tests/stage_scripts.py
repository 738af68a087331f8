"""Run the project's scripts as a user does, in this process, on a small subset of real images."""

import runpy
import sys

import pytest

from bayestda.experiments import paths
from bayestda.experiments.data import prepare
from bayestda.experiments.grid import Experiment

TASK, NUM_PER_CLASS = "mnist3s7", 4
SMALL = Experiment("cnn2", TASK, NUM_PER_CLASS)
FLAGS = ("--task", TASK, "--num_per_class", str(NUM_PER_CLASS), "--jobs", "1")
TRAINING = ("train_cnn", "finetune_vit_lora")
STAGES = ("loo", "ats", "influence", "grad_dot", "grad_cos")


def make_subset():
    """Draw the small subset below the current root."""
    source = paths.REPOSITORY / "data" / "mnist3"
    prepare.new_subset("mnist3", str(source), 7, [NUM_PER_CLASS], 10)


def script(name, family="cnn"):
    """Path of a script: training stands at the top, other stages in a folder of each family."""
    folder = "" if name in TRAINING else f"tda_{family}_scripts"
    return paths.REPOSITORY / folder / f"{name}.py"


def run(name, *flags, small=True, family="cnn"):
    """Run a script with the small subset's flags; returns its exit status."""
    return run_path(script(name, family), *(FLAGS if small else ()), *flags)


def run_path(path, *flags):
    """Run the script of a path as a user does; returns its exit status."""
    arguments = [str(path), *map(str, flags)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        try:
            runpy.run_path(arguments[0], run_name="__main__")
        except SystemExit as stopped:
            return stopped.code
    return 0


def score_file(method, run_id=0, experiment=SMALL):
    """Score file of one run of a small experiment."""
    return paths.scores(experiment.name, method, experiment.runs()[run_id].name)
