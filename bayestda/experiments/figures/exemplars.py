"""The most and the least reliable pairs, and the training images behind their test images."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayestda.experiments.data.images import Images
from bayestda.experiments.figures.gallery import Row, Tile
from bayestda.plots.pairs import least_reliable, most_reliable
from bayestda.plots.style import label, measurement, probability

HELPS, HARMS = "#0072B2", "#D55E00"
NUM_TESTS, NUM_TRAIN = 3, 4  # test images of each kind; helpful, and harmful, images of each
COLUMNS = ["test image", "its pair", *["most helpful"] * NUM_TRAIN, *["most harmful"] * NUM_TRAIN]


def gallery_rows(pairs: Mapping[str, xr.Dataset], train: Images, test: Images) -> list[Row]:
    """Return the gallery's rows, of columns :data:`COLUMNS`: most, then least reliable pairs.

    Args:
        pairs: Statistics by method: mean, std, p, q (train, test) and n_seeds. The first method
            chooses the pairs; each method gets a row.
        train, test: Images that the pairs number.
    """
    chooser = next(iter(pairs))
    sections = {
        f"Most reliable pairs (smallest q of {label(chooser)})": most_reliable,
        f"Least reliable pairs (largest p of {label(chooser)})": least_reliable,
    }
    rows = []
    for heading, choose in sections.items():
        for pair in choose(pairs[chooser], NUM_TESTS):
            for method, dataset in pairs.items():
                pixels_HWC, digit = find(test, pair[1])
                shown = Tile(pixels_HWC, f"label {digit} · no. {pair[1]}")
                tiles = _tiles(dataset, pair, train)
                rows.append(
                    Row(label(method), (shown if method == chooser else None, *tiles), heading)
                )
                heading = ""
    return rows


def _tiles(pairs: xr.Dataset, pair: tuple[int, int], train: Images) -> list:
    """Return the pair's training image, then the most helpful and harmful; None: no such."""
    helpful, harmful = extremes(pairs, pair[1], NUM_TRAIN)
    absent: list = [None] * (NUM_TRAIN - len(helpful))
    helpful_tiles = [pair_tile(pairs, (number, pair[1]), train) for number in helpful]
    harmful_tiles = [pair_tile(pairs, (number, pair[1]), train) for number in harmful]
    first = pair_tile(pairs, pair, train)
    return [first, *helpful_tiles, *absent, *harmful_tiles, *absent]


def extremes(pairs: xr.Dataset, test: int, count: int) -> tuple[list[int], list[int]]:
    """Return the training images that help and harm a test image most, by mean score.

    Args:
        pairs: Variable ``mean`` with dims (train, test).
        test: Number of the test image.
        count: Number of each; fewer when there are not twice as many training images.
    """
    mean = pairs["mean"].sel(test=test).dropna("train")
    by_effect = mean["train"].values[np.argsort(-mean.values, kind="stable")].tolist()
    count = min(count, len(by_effect) // 2)
    return by_effect[:count], by_effect[::-1][:count]


def find(images: Images, number: int) -> tuple[NDArray, int]:
    """Return pixels and label of the image with this original number."""
    (position,) = np.flatnonzero(images.index == number)
    return images.pixels[position], int(images.label[position])


def pair_tile(pairs: xr.Dataset, pair: tuple[int, int], train: Images) -> Tile:
    """Return a training image with label, number, mean score ± standard error, and q-value."""
    number, test = pair
    cell = pairs.sel(train=number, test=test)
    mean, error = float(cell["mean"]), float(cell["std"]) / float(cell["n_seeds"]) ** 0.5
    pixels_HWC, digit = find(train, number)
    caption = "\n".join(
        (
            f"label {digit} · no. {number}",
            measurement(mean, error),
            probability("q", float(cell["q"])),
        )
    )
    return Tile(pixels_HWC, caption, HELPS if mean > 0 else HARMS)
