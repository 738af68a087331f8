"""Arrays of scores that are compared: same dims, same pairs, finite values."""

from typing import Any

import numpy as np
import xarray as xr

from bayestda.errors import UserError


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
        UserError: no ``DataArray``, dims that lack or are too many, no values, values that are
            not finite, too few seeds or two of one name.
    """
    _check_dims(scores, ("seed", *dims), what)
    _check_values(scores, what)
    names = scores["seed"].values.tolist()
    if len(set(names)) < len(names):
        raise UserError(
            f"{what} have two seeds of one name: give every run its own in the coordinate 'seed'"
        )
    if len(names) < min_seeds:
        raise UserError(
            f"{what} have {len(names)} seed, at least {min_seeds} are needed to tell signal from "
            "noise: train with further seeds and concatenate their scores along 'seed'"
        )
    return run_means(scores).transpose("seed", *dims)


def like(array: xr.DataArray, reference: xr.DataArray, dim: str, what: str) -> xr.DataArray:
    """The array with the names along a dim in the order of the reference.

    Names are the dim's coordinate, by default 0, 1, ...

    Raises:
        UserError: the two do not have the same names.
    """
    have, want = array[dim].values, reference[dim].values
    if np.array_equal(have, want):
        return array
    if len(have) != len(want) or set(have.tolist()) != set(want.tolist()):
        raise UserError(
            f"{what} and truth differ along {dim!r} ({len(have)} and {len(want)}, or other names): "
            f"select those that both have with .sel({dim}=...)"
        )
    return array.sel({dim: want})


def _check_dims(scores: Any, dims: tuple[str, ...], what: str) -> None:
    wanted = f"({', '.join(dims)})"
    if not isinstance(scores, xr.DataArray):
        raise UserError(
            f"{what} must be an xarray.DataArray with the dims {wanted}, got "
            f"{type(scores).__name__}: wrap an array, or take the variable of a Dataset by name"
        )
    missing = [dim for dim in dims if dim not in scores.dims]
    if missing:
        raise UserError(
            f"{what} need the dims {wanted} but have ({', '.join(map(str, scores.dims))}): add "
            f"{missing[0]!r} with .rename(...), or with .expand_dims({missing[0]}=[0]) if there "
            "is one only"
        )
    for dim in scores.dims:
        if dim not in (*dims, "checkpoint"):
            raise UserError(
                f"{what} have the dim {str(dim)!r} beyond {wanted} and checkpoint: take one with "
                f".isel({dim}=0) or their mean with .mean({str(dim)!r})"
            )


def _check_values(scores: xr.DataArray, what: str) -> None:
    if not scores.size:
        raise UserError(f"{what} are empty ({dict(scores.sizes)}): check what was selected")
    if scores.dtype.kind not in "fiu":
        raise UserError(f"{what} are of type {scores.dtype}: convert them with .astype(float)")
    num_bad = int((~np.isfinite(scores.values)).sum())
    if num_bad:
        raise UserError(
            f"{num_bad} of {scores.size} values of {what} are not finite: leave out the runs that "
            "diverged with .dropna('seed'), or the examples with .dropna('train') or 'test'"
        )


def run_means(scores: xr.DataArray) -> xr.DataArray:
    """One score per run: the mean over its checkpoints, in float64.

    Args:
        scores: dims (seed, train, test) and, unless already averaged, checkpoint.
    """
    scores = scores.astype(np.float64)
    return scores.mean("checkpoint", skipna=False) if "checkpoint" in scores.dims else scores
