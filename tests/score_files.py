"""Synthetic score files whose statistics are known, written as the stage scripts write them."""

import runpy
import sys

import numpy as np
import pandas as pd
import xarray as xr

from bayestda.experiments import paths, results
from bayestda.experiments.grid import Experiment, Run, sign_of

NUM_TRAIN, NUM_TEST, NUM_CHECKPOINTS, NUM_OUTPUTS = 6, 15, 5, 10
NAME = "cnn2_mnist3_10pc"
SIGNAL = np.random.default_rng(0).normal(size=(NUM_TRAIN, NUM_TEST))
METHODS = {  # signals that are known: none, one, and its multiples
    "grad_cos": np.zeros_like(SIGNAL),
    "loo": SIGNAL,
    "ats": SIGNAL,
    "influence": 2 * SIGNAL,
    "loo_published": 3 * SIGNAL,
}


def write_experiment(
    name: str, methods: dict[str, np.ndarray], noise: float = 0.5, **sizes
) -> None:
    """Write scores: each method's signal [N M] plus normal noise of runs and of checkpoints.

    Args:
        name: of the experiment.
        methods: method -> signal.
        noise: standard deviation over runs; half of it over checkpoints.
        sizes: number of runs per method, where it is not all; by the method's name.
    """
    experiment = Experiment.parse(name)
    for place, (method, signal_NM) in enumerate(methods.items()):
        for run in experiment.runs()[: sizes.get(method)]:
            rng = np.random.default_rng([place, run.init, run.order])
            shape = (1, NUM_CHECKPOINTS, *signal_NM.shape)
            scores = signal_NM + noise * rng.normal(size=(1, 1, *signal_NM.shape))
            scores = scores + noise / 2 * rng.normal(size=shape)
            write_run(experiment, method, run, scores)


def write_run(experiment: Experiment, method: str, run: Run, scores: np.ndarray) -> None:
    """Write one score file: influence with two dampings, LOO with the base run's test loss."""
    variables = {"score": (("seed", "checkpoint", "train", "test"), scores.astype(np.float32))}
    extra: dict = {}
    if method == "influence":
        both = np.stack([scores, scores**3]).astype(np.float32)
        variables["score"] = (("damping", "seed", "checkpoint", "train", "test"), both)
        extra = {"damping": [0.1, 1.0]}
    if method.startswith("loo"):
        losses = np.random.default_rng(run.order).normal(1, 0.1, (1, NUM_CHECKPOINTS, NUM_TEST))
        variables["test_loss"] = (("seed", "checkpoint", "test"), losses)
    dataset = xr.Dataset(variables, {**coordinates(run), **extra})
    if method == "influence":
        dataset.attrs["default_damping"] = 0.1
    path = paths.scores(experiment.name, method, run.name)
    results.write_scores(
        path, dataset, {**experiment.settings(), "method": method, **sign_of(method)}
    )


def coordinates(run: Run) -> dict:
    """Coordinates of one run's file."""
    name = run.name if "x" in run.name else int(run.name)
    return {
        "seed": [name],
        "init": ("seed", [run.init]),
        "order": ("seed", [run.order]),
        "checkpoint": np.arange(11, 11 + NUM_CHECKPOINTS),
        "train": np.arange(NUM_TRAIN) * 11,
        "test": np.arange(NUM_TEST) * 3,
        "train_label": ("train", np.arange(NUM_TRAIN) % 3),
        "test_label": ("test", np.arange(NUM_TEST) % 3),
    }


def write_predictions(name: str, num_wrong: list[int]) -> None:
    """Write predictions: right on training images, wrong on ``num_wrong[run]`` test images."""
    experiment = Experiment.parse(name)
    for run, wrong in zip(experiment.runs(), num_wrong, strict=False):
        coords = coordinates(run)
        given = {split: np.array(coords[f"{split}_label"][1]) for split in ("train", "test")}
        given["test"][:wrong] += 1
        logits = {
            f"{split}_logit": (
                ("seed", "checkpoint", split, "output"),
                np.tile(np.eye(NUM_OUTPUTS, dtype=np.float32)[labels], (1, NUM_CHECKPOINTS, 1, 1)),
            )
            for split, labels in given.items()
        }
        path = paths.predictions(experiment.name, run.name)
        results.write_scores(path, xr.Dataset(logits, coords), experiment.settings())


def call(monkeypatch, script: str, *arguments: str) -> None:
    """Run a script of ``analysis/`` in this process."""
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    path = paths.REPOSITORY / "analysis" / f"{script}.py"
    runpy.run_path(str(path), run_name="__main__")


def read(table: str, experiment: str = NAME) -> pd.DataFrame:
    """A table of an experiment."""
    return pd.read_csv(paths.table(experiment, table))


def write_crossed(num_runs: int) -> None:
    """Write ATS of crossed runs: variance 1 of initialisations, 4 of orders, .25 of checkpoints."""
    experiment = Experiment.parse(f"{NAME}_crossed")
    rng = np.random.default_rng(1)
    of_init, of_order = rng.normal(size=(2, 10**4, NUM_TRAIN, NUM_TEST))
    for run in experiment.runs()[:num_runs]:
        noise = 0.5 * rng.normal(size=(1, 5, NUM_TRAIN, NUM_TEST))
        write_run(experiment, "ats", run, of_init[run.init] + 2 * of_order[run.order] + noise)
