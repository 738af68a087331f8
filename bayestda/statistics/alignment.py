"""Check arrays of scores and align them: same dims, same pairs, finite values."""

from typing import Any

import numpy as np
import xarray as xr

from bayestda.errors import UserError


def checked_runs(
    scores: Any, dims: tuple[str, ...], what: str = "scores", *, min_seeds: int = 1
) -> xr.DataArray:
    """Return one map per run, dims (seed, *dims) in this order, with checkpoints averaged.

    Args:
        scores: Scores with dims (seed, *dims) in any order and, unless averaged, checkpoint.
        dims: Dims of a map.
        what: Name of the array for error messages.
        min_seeds: Smallest number of seeds.

    Raises:
        UserError: The array is no ``DataArray``, has missing or further dims, no values or values
            that are not finite, too few seeds, or two seeds of one name.
    """
    _check_dims(scores, ("seed", *dims), what)
    _check_values(scores, what)
    names = scores["seed"].values.tolist()
    if len(set(names)) < len(names):
        raise UserError(
            f"{what} have two seeds of one name: give each run its own name in the coordinate "
            "'seed'"
        )
    if len(names) < min_seeds:
        raise UserError(
            f"{what} have {len(names)} seed, at least {min_seeds} are needed to tell signal from "
            "noise: train with further seeds and concatenate their scores along 'seed'"
        )
    return run_means(scores).transpose("seed", *dims)


def like(array: xr.DataArray, reference: xr.DataArray, dim: str, what: str) -> xr.DataArray:
    """Return the array with its names along a dim in the order of the reference.

    Args:
        array: Scores; names are the dim's coordinate, by default 0, 1, ...
        reference: An array with the same names along the dim.
        dim: Name of the dim.
        what: Name of the array for error messages.

    Raises:
        UserError: The two do not have the same names.
    """
    names, order = array[dim].values, reference[dim].values
    if np.array_equal(names, order):
        return array
    if len(names) != len(order) or set(names.tolist()) != set(order.tolist()):
        raise UserError(
            f"{what} and truth differ along {dim!r} ({len(names)} and {len(order)}, or other "
            f"names): select those that both have with .sel({dim}=...)"
        )
    return array.sel({dim: order})


def _check_dims(scores: Any, dims: tuple[str, ...], what: str) -> None:
    form = f"({', '.join(dims)})"
    if not isinstance(scores, xr.DataArray):
        raise UserError(
            f"{what} must be an xarray.DataArray with the dims {form}, got "
            f"{type(scores).__name__}: wrap an array, or take the variable of a Dataset by name"
        )
    missing = [dim for dim in dims if dim not in scores.dims]
    if missing:
        raise UserError(
            f"{what} need the dims {form} but have ({', '.join(map(str, scores.dims))}): add "
            f"{missing[0]!r} with .rename(...), or with .expand_dims({missing[0]}=[0]) if there "
            "is one only"
        )
    for dim in scores.dims:
        if dim not in (*dims, "checkpoint"):
            raise UserError(
                f"{what} have the dim {str(dim)!r} beyond {form} and checkpoint: take one with "
                f".isel({dim}=0) or their mean with .mean({str(dim)!r})"
            )


def _check_values(scores: xr.DataArray, what: str) -> None:
    if not scores.size:
        raise UserError(f"{what} are empty ({dict(scores.sizes)}): check the selection")
    if scores.dtype.kind not in "fiu":
        raise UserError(f"{what} are of type {scores.dtype}: convert them with .astype(float)")
    num_bad = int((~np.isfinite(scores.values)).sum())
    if num_bad:
        raise UserError(
            f"{num_bad} of {scores.size} values of {what} are not finite: leave out the runs that "
            "diverged with .dropna('seed'), or the examples with .dropna('train') or 'test'"
        )


def run_means(scores: xr.DataArray) -> xr.DataArray:
    """Return one score per run, the mean over its checkpoints, in float64.

    Args:
        scores: Scores with dims (seed, train, test) and, unless averaged, checkpoint.
    """
    scores = scores.astype(np.float64)
    # NaN of one checkpoint makes the run NaN: a mean of the others would hide a failed one.
    return scores.mean("checkpoint", skipna=False) if "checkpoint" in scores.dims else scores
