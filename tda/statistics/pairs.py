"""Which train-test pairs have a score that can be trusted, and is an array one of scores at all?"""

from typing import Any

import numpy as np
import xarray as xr

from tda.statistics.significance import (
    LEVEL,
    POWER,
    benjamini_hochberg,
    expected_sign_agreement,
    run_means,
    seeds_needed,
    sign_agreement,
    signal_to_noise,
    student_t,
)


def pair_reliability(
    scores: xr.DataArray, *, level: float = LEVEL, power: float = POWER
) -> xr.Dataset:
    """Mean score of every train-test pair over seeds, and how far it can be trusted.

    Args:
        scores: dims (seed, train, test) and, unless already averaged, checkpoint (averaged first:
            checkpoints of one run are not independent).
        level, power: of the two-sided t-test that ``seeds_needed`` plans. Change nothing else.

    Returns:
        Variables of dims (train, test). ``mean``, ``std`` (ddof 1) over seeds; ``t``, ``p`` of
        Student's test of a mean of zero; ``q``, the false discovery rate over all pairs (Benjamini
        and Hochberg 1995); ``sign_agreement``, the share of seeds with the majority's sign (a zero
        has none); ``seeds_needed`` to find an effect as large as the observed one, which among
        pairs picked for their small p is too large, and their number too small. Attributes state
        n, null hypothesis, correction, and the agreement expected of noise
        (:func:`expected_sign_agreement`).

    Raises:
        ValueError: less than two seeds, missing or further dims, values that are not finite, a
            level or power outside of 0 to 1.
    """
    runs = checked_runs(scores, ("train", "test"), min_seeds=2)
    if not (0 < level < 1 and level < power < 1):
        raise ValueError(
            f"level {level} and power {power} must lie between 0 and 1, the level below the power"
        )
    pairs = student_t(runs)
    pairs["q"] = benjamini_hochberg(pairs["p"])
    pairs["sign_agreement"] = sign_agreement(runs)
    pairs["seeds_needed"] = seeds_needed(signal_to_noise(runs), level, power)
    return pairs.transpose("train", "test").assign_attrs(
        num_seeds=runs.sizes["seed"],
        null_hypothesis="the score's mean over seeds is zero (Student's t, two-sided)",
        correction="q: Benjamini-Hochberg over all pairs",
        seeds_needed=f"two-sided t-test at level {level} with power {power}",
        sign_agreement_of_noise=expected_sign_agreement(runs.sizes["seed"]),
    )


def checked_runs(
    scores: Any, dims: tuple[str, ...], what: str = "scores", *, min_seeds: int = 1
) -> xr.DataArray:
    """One map per run, dims (seed, *dims) in this order; checkpoints are averaged.

    Args:
        scores: dims (seed, *dims) in any order and, unless already averaged, checkpoint.
        dims: what a map is over.
        what: the array's name in messages.
        min_seeds: fewer are an error.

    Raises:
        ValueError: no ``DataArray``, dims that lack or are too many, no values, values that are
            not finite, too few seeds or two of one name.
    """
    _check_dims(scores, ("seed", *dims), what)
    _check_values(scores, what)
    names = scores["seed"].values.tolist()
    if len(set(names)) < len(names):
        raise ValueError(
            f"{what} have two seeds of one name: give every run its own in the coordinate 'seed'"
        )
    if len(names) < min_seeds:
        raise ValueError(
            f"{what} have {len(names)} seed, at least {min_seeds} are needed to tell signal from "
            "noise: train with further seeds and concatenate their scores along 'seed'"
        )
    return run_means(scores).transpose("seed", *dims)


def like(array: xr.DataArray, reference: xr.DataArray, dim: str, what: str) -> xr.DataArray:
    """The array with the names along a dim in the order of the reference.

    Names are the dim's coordinate, by default 0, 1, ...

    Raises:
        ValueError: the two do not have the same names.
    """
    have, want = array[dim].values, reference[dim].values
    if np.array_equal(have, want):
        return array
    if len(have) != len(want) or set(have.tolist()) != set(want.tolist()):
        raise ValueError(
            f"{what} and truth differ along {dim!r} ({len(have)} and {len(want)}, or other names): "
            f"select those that both have with .sel({dim}=...)"
        )
    return array.sel({dim: want})


def _check_dims(scores: Any, dims: tuple[str, ...], what: str) -> None:
    wanted = f"({', '.join(dims)})"
    if not isinstance(scores, xr.DataArray):
        raise ValueError(
            f"{what} must be an xarray.DataArray with the dims {wanted}, got "
            f"{type(scores).__name__}: wrap an array, or take the variable of a Dataset by name"
        )
    missing = [dim for dim in dims if dim not in scores.dims]
    if missing:
        raise ValueError(
            f"{what} need the dims {wanted} but have ({', '.join(map(str, scores.dims))}): add "
            f"{missing[0]!r} with .rename(...), or with .expand_dims({missing[0]}=[0]) if there "
            "is one only"
        )
    for dim in scores.dims:
        if dim not in (*dims, "checkpoint"):
            raise ValueError(
                f"{what} have the dim {str(dim)!r} beyond {wanted} and checkpoint: take one with "
                f".isel({dim}=0) or their mean with .mean({str(dim)!r})"
            )


def _check_values(scores: xr.DataArray, what: str) -> None:
    if not scores.size:
        raise ValueError(f"{what} are empty ({dict(scores.sizes)}): check what was selected")
    if scores.dtype.kind not in "fiu":
        raise ValueError(f"{what} are of type {scores.dtype}: convert them with .astype(float)")
    num_bad = int((~np.isfinite(scores.values)).sum())
    if num_bad:
        raise ValueError(
            f"{num_bad} of {scores.size} values of {what} are not finite: leave out the runs that "
            "diverged with .dropna('seed'), or the examples with .dropna('train') or 'test'"
        )
