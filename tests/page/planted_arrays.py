"""Scores, images and predictions with planted structure."""

import numpy as np
import xarray as xr

DIMS = ("seed", "checkpoint", "train", "test")


def planted_scores(methods=("loo", "influence"), seeds=5, checkpoints=3, effect=1.5):
    """A common effect on a third of 20 training examples for 12 test examples, plus noise."""
    shape = (seeds, checkpoints, 20, 12)
    effect_NM = np.random.default_rng(7).normal(size=shape[2:])
    effect_NM[shape[2] // 3 :] = 0
    coords = {
        "seed": np.arange(seeds) + 1,
        "checkpoint": np.arange(checkpoints) + 13,
        "train": np.arange(20) * 3 + 100,
        "test": np.arange(12) + 7000,
        "train_label": ("train", np.arange(20) % 3),
        "test_label": ("test", np.arange(12) % 3),
    }
    found = {}
    for place, name in enumerate(methods):
        rng = np.random.default_rng([place, 1])
        noise = rng.normal(size=(seeds, 1, *shape[2:])) + 0.5 * rng.normal(size=shape)
        found[name] = xr.DataArray((effect * effect_NM + noise) * 1e-3, coords, DIMS, name)
    return found


def planted_images(count, size=(28, 28), channels=None):
    """Bright squares at places of their own on a dark ground, uint8."""
    shape = (count, *size) if channels is None else (count, *size, channels)
    pixels = np.zeros(shape, np.uint8)
    for place in range(count):
        top, left = place % (size[0] - 8), (5 * place) % (size[1] - 8)
        pixels[place, top : top + 8, left : left + 8] = 255 - 5 * (place % 20)
    return pixels


def planted_probabilities(count=12, classes=3):
    """Probabilities [M K] of which every third is wrong."""
    probability_MK = np.full((count, classes), 0.1)
    for place in range(count):
        probability_MK[place, (place + (place % 3 == 2)) % classes] += 1 - 0.1 * classes
    return probability_MK
