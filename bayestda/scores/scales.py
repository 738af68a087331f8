"""Scores of any estimator as shifts of a measurement by removal, where their scale allows."""

import xarray as xr

from bayestda.errors import UserError

SIGN = "positive = removal raises the measurement"
PER_MEAN_LOSS = (  # ∇g φ(C) ∇L with C of the mean loss: N times the change
    "influence", "influence_hessian", "influence_cg", "influence_lissa", "influence_low_rank",
    "influence_ekfac", "influence_projected", "influence_preconditioned", "datainf", "unrolled",
    "flow", "generalised", "proposition_1", "near_stationary",
)  # fmt: skip
MEASURED = ("loo", "leave_group_out", "replay")  # changes already
SCALED = {  # right up to one factor that the scores do not know
    "grad_dot": "it is the change per unit of Σ_t η_t / N, where curvature does not matter yet: "
    "give scale=Σ_t η_t / N, or take method='flow', which knows the horizon and the curvature",
    "tracin": "its sum over checkpoints leaves out how many steps each stands for, and B: give "
    "scale=(epochs between checkpoints) / B",
}
REFUSED = {
    "grad_cos": "gradients are normalised, each by its own length, so that no factor gives "
    "changes of the measurement: take 'grad_dot' with scale=, or 'flow'",
    "trak": "TRAK's kernel leaves out the loss's curvature in the outputs and its scores are a "
    "product of means over models, so that they rank examples and have no unit: take "
    "'influence_projected'",
    "representer": "representer values share out an output at the optimum; they are not what it "
    "changes by when the others are trained again: take 'influence' with parameters='head.*'",
    "ats": "it is the effect of one more step on the example and not of its whole training: take "
    "'unrolled' shifts",
}


def as_shifts(scores: xr.DataArray, *, scale: float | None = None) -> xr.DataArray:
    """Scores of any estimator as shifts, where their scale allows.

    Influence functions and filters are divided by N, as C is the curvature of the *mean* loss;
    retraining and replays are shifts as they are.

    Args:
        scores: of all training examples, from :func:`tda.attribute`, :func:`tda.leave_one_out` or
            :func:`tda.replay`, positive = helpful, their attribute ``method`` says which.
        scale: what makes a score a change of the measurement, for ``grad_dot``, ``tracin`` and
            methods of your own; Grad-Dot's is Σ_t η_t / N.

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
    """What makes a score of a method a change of the measurement."""
    if method in REFUSED:
        raise UserError(f"scores of {method!r} are no shifts: {REFUSED[method]}")
    if method in (*PER_MEAN_LOSS, *MEASURED):
        if scale is not None:
            raise UserError(f"the scale of {method!r} is known: leave scale= out")
        if method in MEASURED:
            return 1.0
        if num_train is None:
            raise UserError(
                "the number of training examples is not known from scores of groups: give "
                "tda.group_scores(tda.as_shifts(scores), groups)"
            )
        return 1 / num_train
    if scale is None:
        why = SCALED.get(method, "the library does not know it: give scale=")
        raise UserError(f"scores of {method!r} have no absolute scale: {why}")
    return scale
