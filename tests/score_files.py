"""Synthetic score files whose statistics are known, written as the stage scripts write them."""

import numpy as np
import xarray as xr

from tda import paths, store
from tda.experiments import Experiment, Run

NUM_TRAIN, NUM_TEST, NUM_CHECKPOINTS, NUM_OUTPUTS = 6, 15, 5, 10


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
        both = np.stack([scores, np.zeros_like(scores)]).astype(np.float32)
        variables["score"] = (("damping", "seed", "checkpoint", "train", "test"), both)
        extra = {"damping": [0.1, 1.0]}
    if method.startswith("loo"):
        losses = np.random.default_rng(run.order).normal(1, 0.1, (1, NUM_CHECKPOINTS, NUM_TEST))
        variables["test_loss"] = (("seed", "checkpoint", "test"), losses)
    dataset = xr.Dataset(variables, {**coordinates(run), **extra})
    if method == "influence":
        dataset.attrs["default_damping"] = 0.1
    path = paths.scores(experiment.name, method, run.name)
    store.write_scores(path, dataset, {**experiment.settings(), "method": method})


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
    """Write predictions right on all training images and wrong on ``num_wrong[run]`` test images."""
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
        store.write_scores(path, xr.Dataset(logits, coords), experiment.settings())
