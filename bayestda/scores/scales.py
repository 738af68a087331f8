"""Scores of any estimator as shifts of a measurement by removal, where their scale allows."""

import xarray as xr

from bayestda.errors import UserError
from bayestda.scores.estimators import CHANGE, CHANGE_TIMES_N, METHODS, NO_UNIT, Estimator

SIGN = "positive = removal raises the measurement"


def as_shifts(scores: xr.DataArray, *, scale: float | None = None) -> xr.DataArray:
    """Return scores of any estimator as shifts, where their scale allows.

    Influence functions and filters are divided by N, as C is the curvature of the *mean* loss;
    retraining and replays are shifts as they are.

    Args:
        scores: Scores of all training examples, from :func:`tda.attribute`,
            :func:`tda.leave_one_out` or :func:`tda.replay`, positive = helpful. Their attribute
            ``method`` says which.
        scale: The factor that makes a score a change of the measurement, for ``grad_dot``,
            ``tracin`` and methods of your own. Grad-Dot's is Σ_t η_t / N.

    Raises:
        UserError: there is no such factor, or it is not known; the message says why.
    """
    if "train" not in scores.dims and "group" not in scores.dims:
        raise UserError(f"shifts need the dim train or group: these scores have {scores.dims}")
    method = str(scores.attrs.get("method", scores.name))
    factor = scale_of(method, scores.sizes.get("train"), scale)
    kept = {name: value for name, value in scores.attrs.items() if name != "sign"}
    return (scores * factor).assign_attrs(**kept, sign=SIGN).rename("shifts")


def scale_of(method: str, num_train: int | None, scale: float | None) -> float:
    """Return what makes a score of a method a change of the measurement.

    Raises:
        UserError: there is no such factor, or it is not known; the message says why.
    """
    entry = METHODS.get(method) or Estimator(method, method)
    if entry.unit == NO_UNIT:
        raise UserError(f"scores of {method!r} are no shifts: {entry.advice}")
    if entry.unit not in (CHANGE, CHANGE_TIMES_N):
        if scale is None:
            raise UserError(f"scores of {method!r} have no absolute scale: {entry.advice}")
        return scale
    if scale is not None:
        raise UserError(f"the scale of {method!r} is known: leave scale= out")
    if entry.unit == CHANGE:
        return 1.0
    if num_train is None:
        raise UserError(
            "the number of training examples is not known from scores of groups: give "
            "tda.group_scores(tda.as_shifts(scores), groups)"
        )
    return 1 / num_train
