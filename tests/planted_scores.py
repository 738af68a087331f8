"""Score files with planted structure, as the stage scripts would have written them."""

import numpy as np
import xarray as xr

from bayestda.experiments import paths, results
from bayestda.experiments.data.subsets import read_images, read_index_list
from bayestda.experiments.grid import METHODS, Experiment, sign_of

NUM_TEST, NUM_CHECKPOINTS = 12, 3


def write_scores(experiment: Experiment, methods=METHODS, num_runs=None, num_train=20):
    """A common effect on a third of the training images, plus noise of runs and checkpoints."""
    splits = {"train": (experiment.num_per_class, num_train), "test": (None, NUM_TEST)}
    coords = {}
    for split, (size, count) in splits.items():
        numbers = read_index_list(paths.index_list(experiment.task, size))[:count]
        images = read_images(paths.images(experiment.task, split), numbers)
        coords[split] = numbers
        coords[f"{split}_label"] = (split, images.label)
    for method in methods:
        for run_id, run in enumerate(experiment.runs()[:num_runs]):
            path = paths.scores(experiment.name, method, run.name)
            dataset = _dataset(experiment, method, run_id, run, coords)
            results.write_scores(path, dataset, {"n": 1, **sign_of(method)})


def _dataset(experiment, method, run_id, run, coords):
    shape = (NUM_CHECKPOINTS, len(coords["train"]), len(coords["test"]))
    rng = np.random.default_rng([run_id, sorted(METHODS).index(method)])
    effect_NM = np.random.default_rng(7).normal(size=shape[1:])
    effect_NM[shape[1] // 3 :] = 0
    noise = rng.normal(size=shape[1:]) + 0.5 * rng.normal(size=shape)
    score = (1.5 * effect_NM + noise) * 1e-3
    seed = run.name if experiment.randomness == "crossed" else int(run.name)
    variables = {"score": (("seed", "checkpoint", "train", "test"), score[None].astype("float32"))}
    if method == "loo":
        loss = rng.uniform(0.1, 0.5, size=(1, shape[0], shape[2]))
        variables["test_loss"] = (("seed", "checkpoint", "test"), loss)
    return xr.Dataset(
        variables,
        coords={
            "seed": [seed],
            "init": ("seed", [run.init]),
            "order": ("seed", [run.order]),
            "checkpoint": np.arange(NUM_CHECKPOINTS) + 13,
            **coords,
        },
    )
