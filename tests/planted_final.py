"""Files of final-model-only attribution with planted structure, as its stages would write them."""

import numpy as np
import xarray as xr

from bayestda.experiments import paths, results
from bayestda.experiments.data import tables
from bayestda.experiments.final_models import FIRST_ORDER

LEFT_OUT, TESTS = 6, 4


def write_final(task, train_seeds, orders, numbers, outputs):
    """Further training, one approximation with dampings, and predictions of a task."""
    rng, name = np.random.default_rng(3), f"fimo_{task}"
    left_out, test = numbers
    effect = rng.normal(size=(LEFT_OUT, TESTS))
    coords = {"step": [0, 9], "epoch": ("step", [0.0, 1.0]), "left_out": left_out, "test": test}
    for train_seed in train_seeds:
        for order in orders:
            full = rng.uniform(1, 2, size=(1, 1, 2, TESTS))
            grown = effect * np.array([0, 1])[:, None, None]
            loss = full[..., None, :] + grown + 0.1 * rng.normal(size=grown.shape)
            dims = ("train_seed", "seed", "step", "left_out", "test")
            dataset = xr.Dataset(
                {"loss": (dims, loss), "full": (("train_seed", "seed", "step", "test"), full)},
                {**coords, "train_seed": [train_seed], "seed": [order]},
            )
            path = paths.further(name, "sgd", f"{train_seed}x{order}")
            flags = f"--task {task} --train_seed {train_seed}"
            results.write_scores(path, dataset, {"order": FIRST_ORDER + order}, flags=flags)
        both = np.stack([effect, 2 * effect])[None]
        score = xr.DataArray(
            both, dims=("train_seed", "damping", "left_out", "test"),
            coords={"train_seed": [train_seed], "damping": [0.1, 1.0],
                    "left_out": left_out, "test": test},
        )  # fmt: skip
        path = paths.approximation(name, "influence", str(train_seed))
        results.write_scores(path, xr.Dataset({"score": score}), {})
        predicted = xr.DataArray(
            outputs[None], dims=("train_seed", "test", "output"), coords={"test": test}
        )
        found = xr.Dataset({"test_output": predicted}).assign_coords(train_seed=[train_seed])
        results.write_scores(paths.predictions(name, str(train_seed)), found, {})
    return effect


def energy_numbers():
    rows = tables.read_rows("energy")
    train, test = tables.split_rows(len(rows), tables.TABLES["energy"].num_test)
    return rows, rows.index.to_numpy()[train[:LEFT_OUT]], rows.index.to_numpy()[test[:TESTS]], train
