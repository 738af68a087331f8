"""Bring scores into few bytes: whole numbers of one or two bytes, compressed, as text for HTML.

``templates/data.js`` reads what is written here, in the same order. Little-endian throughout.
"""

import base64
import zlib

import numpy as np
import xarray as xr

Q_STEPS = 20_000  # q is rounded down to 1/20000, so that q < .05 is asked exactly
AGREEMENT_STEPS = 200
UNKNOWN_2, UNKNOWN_1 = 2**16 - 1, 2**8 - 1
LEVELS = 31  # of a sample, on either side of its pair's mean


def packed(*arrays: np.ndarray) -> str:
    """Return arrays one after the other, compressed (zlib), in base64."""
    content = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    return base64.b64encode(zlib.compress(content, 9)).decode()


def encode_pairs(table: xr.Dataset) -> str:
    """Pack the statistics of every pair.

    Args:
        table: Statistics of :func:`bayestda.page.pairs.pair_table`, dims (test, train).

    Returns:
        These arrays, packed: float32 [M] units of means, and of half-widths; int16 [M N] means and
        uint16 [M N] half-widths in their units; uint16 [M N] q in 1/20000, rounded down; uint8
        [M N] sign agreement in 1/200, rounded down. The largest number of an unsigned type says
        that a value is not known.
    """
    mean_M1, mean_MN = in_units(table["mean"].values, 2**15 - 1)
    half_M1, half_MN = in_units(table["half_width"].values, UNKNOWN_2 - 1)
    return packed(
        mean_M1.astype("<f4"),
        half_M1.astype("<f4"),
        mean_MN.astype("<i2"),
        known(half_MN, UNKNOWN_2).astype("<u2"),
        known(np.floor(table["q"].values * Q_STEPS), UNKNOWN_2).astype("<u2"),
        known(shares(table["sign_agreement"].values), UNKNOWN_1).astype("u1"),
    )


def encode_samples(scores: xr.DataArray, mean: xr.DataArray, kept_MK: np.ndarray) -> str:
    """Pack single scores of the kept training examples as deviations from their pair's mean.

    Args:
        scores: Scores of dims (seed, checkpoint, train, test).
        mean: Mean scores of dims (test, train).
        kept_MK: Places of training examples for each test example.

    Returns:
        These arrays, packed: float32 [M] units; uint16 [M K] each pair's largest deviation in its
        unit; int8 [S C M K] deviations in 1/31 of their pair's largest one, from -31 to 31.
    """
    ordered = scores.transpose("seed", "checkpoint", "test", "train").values.astype(np.float64)
    all_SCMK = np.take_along_axis(ordered, kept_MK[None, None], axis=-1)
    mean_MK = np.take_along_axis(mean.transpose("test", "train").values, kept_MK, axis=-1)
    deviation_SCMK = all_SCMK - mean_MK
    largest_MK = np.abs(deviation_SCMK).max((0, 1))
    unit_M1, steps_MK = in_units(largest_MK, UNKNOWN_2, up=True)
    level_MK = unit_M1.astype("<f4") * steps_MK / LEVELS
    levels = np.divide(
        deviation_SCMK, level_MK, out=np.zeros_like(deviation_SCMK), where=level_MK > 0
    )
    levels = np.clip(np.rint(levels), -LEVELS, LEVELS)
    return packed(unit_M1.astype("<f4"), steps_MK.astype("<u2"), levels.astype("i1"))


def in_units(values_MN: np.ndarray, largest: int, up: bool = False) -> tuple:
    """Return a unit [M 1] for each row, and the row in it as whole numbers up to ``largest``."""
    sizes_MN = np.abs(values_MN)
    top_M1 = np.nanmax(np.where(np.isfinite(sizes_MN), sizes_MN, 0), axis=1, keepdims=True)
    unit_M1 = (top_M1 / largest).astype(np.float32).astype(np.float64)
    steps_MN = np.divide(values_MN, unit_M1, out=0 * values_MN, where=unit_M1 > 0)
    rounded = np.ceil(steps_MN) if up else np.rint(steps_MN)
    return unit_M1, np.clip(rounded, -largest, largest)


def shares(values: np.ndarray) -> np.ndarray:
    """Return shares in 1/200, rounded down."""
    # 9 of 10 seeds are 180 steps, although .9 * 200 may be just below.
    return np.floor(values * AGREEMENT_STEPS + 1e-9)


def known(values: np.ndarray, unknown: int) -> np.ndarray:
    """Return the values with a whole number in place of what is not a number."""
    return np.where(np.isfinite(values), values, unknown)
