"""Stage: what each method says about a final model's further training, for left-out examples."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayestda.curvature.conjugate_gradients import Indefinite
from bayestda.curvature.filters import Filter, ridge, unrolled
from bayestda.curvature.gauss_newton import dual_gauss_newton, training_products
from bayestda.curvature.vector_products import largest_eigenvalue
from bayestda.errors import UserError
from bayestda.experiments import checkpoints, paths
from bayestda.experiments.approximations import (
    APPROXIMATIONS,
    LISSA_BATCH,
    LISSA_STEPS,
    Approximation,
    projection,
)
from bayestda.experiments.stages.final_context import FinalContext
from bayestda.experiments.stages.further_training import FinalStage
from bayestda.experiments.stages.options import Options
from bayestda.experiments.stages.stage import Result
from bayestda.gradients.blocks import collected
from bayestda.gradients.sample import SampleGradients
from bayestda.methods.conjugate_gradients import cg_influence
from bayestda.methods.datainf import datainf
from bayestda.methods.ekfac import filtered_ekfac_influence
from bayestda.methods.generalised import generalised, near_stationary, proposition_1
from bayestda.methods.grad_cos import grad_cos
from bayestda.methods.grad_dot import grad_dot
from bayestda.methods.linearised import linearised
from bayestda.methods.lissa import lissa
from bayestda.methods.trak import trak
from bayestda.model.examples import labels
from bayestda.retraining.gold_standard import Course
from bayestda.training.recipe import Recipe

Score = Callable[[SampleGradients, Any], Tensor]


def filtered(gradients: SampleGradients, phi: Filter) -> Tensor:
    """Return ∇gᵀ φ(C) ∇L_i [N M] with the exact Gauss-Newton matrix."""
    size = (len(gradients.train_data), len(gradients.test_data))
    return collected(dual_gauss_newton(gradients).filtered(phi), size)


def scaled_lissa(gradients: SampleGradients, damping: float, curvature: str) -> Tensor:
    """Run LiSSA with a scale that makes it converge: twice the largest eigenvalue, plus λ."""
    if "largest" not in gradients.kept:
        gradients.kept["largest"] = largest_eigenvalue(
            training_products(gradients, "gauss_newton"), gradients.theta_P
        )
    return lissa(
        gradients, damping, scale=2 * gradients.kept["largest"] + damping, steps=LISSA_STEPS,
        batch_size=LISSA_BATCH, curvature=curvature,
    )  # fmt: skip


def proposition_1_if_defined(gradients: SampleGradients, damping: float) -> Tensor:
    """Return Proposition 1, or NaN where H + λ is not positive definite and Δ(D) does not exist."""
    try:
        return proposition_1(gradients, damping)
    except Indefinite:
        size = len(gradients.train_data), len(gradients.test_data)
        return torch.full(size, torch.nan)


def _ekfac(gradients: SampleGradients, phi: Filter) -> Tensor:
    return filtered_ekfac_influence(gradients, phi)


SCORES: dict[str, Score] = {
    "grad_dot": lambda gradients, _: grad_dot(gradients),
    "grad_cos": lambda gradients, _: grad_cos(gradients),
    "influence": lambda gradients, damping: filtered(gradients, ridge(damping)),
    "corollary_2": lambda gradients, damping: generalised(gradients, ridge(damping)),
    "equation_16": near_stationary,
    "horizon": filtered,
    "horizon_generalised": generalised,
    "horizon_linearised": linearised,
    "horizon_ekfac": _ekfac,
    "ekfac": lambda gradients, damping: _ekfac(gradients, ridge(damping)),
    "datainf": lambda gradients, _: datainf(gradients),
    "trak": lambda gradients, _: trak(gradients, projection(len(gradients.train_data))),
    "cg": cg_influence,
    "lissa": lambda gradients, damping: scaled_lissa(gradients, damping, "gauss_newton"),
    "lissa_h": lambda gradients, damping: scaled_lissa(gradients, damping, "hessian"),
    "proposition_1": proposition_1_if_defined,
}
"""From gradients of the final model and a damping or filter to scores [N M]: positive = helpful,
for examples of weight 1 and not 1/n."""


class Approximate(FinalStage):
    """Scores of left-out examples by each method, an output each."""

    name, chosen_by = "approximate", "methods"

    def outputs(self, options: Options) -> tuple[str, ...]:
        return tuple(dict.fromkeys(options["methods"]))

    def path(self, experiment: str, output: str, run: str) -> Path:
        return paths.approximation(experiment, output, run)

    def settings(self, context: FinalContext, output: str) -> dict:
        approximation = APPROXIMATIONS[output]
        own: dict[str, object] = {"dampings": approximation.dampings}
        if approximation.filtered:
            own = {"steps": _course(context).steps, "rate": _rate(context)}
        if output.startswith("lissa"):
            own |= {"lissa_steps": LISSA_STEPS, "lissa_batch": LISSA_BATCH}
        if output == "trak":
            own = {"projection": projection(len(context.split.train))}
        final = checkpoints.fingerprint(context.theta_P)
        return {"method": output, "final": final, "num_left_out": len(context.left_out), **own}

    def compute(self, context: FinalContext, items: range, chunk: int) -> Mapping[str, Result]:
        return {output: scores_or_reason(context, output) for output in context.options["methods"]}


def scores_or_reason(context: FinalContext, name: str) -> Result:
    """:func:`scores`, or why the method refuses."""
    try:
        return scores(context, name)
    except UserError as error:
        return error


def scores(context: FinalContext, name: str) -> xr.Dataset:
    """Return ``score`` of one method, dims (train_seed, [damping or step], left_out, test).

    In the scale of a removal where the method has one: with the factor 1/n.
    """
    approximation = APPROXIMATIONS[name]
    dim, given, coordinates = _given(context, approximation)
    chosen = list(context.left_out)
    gradients = context.layer_gradients if approximation.layers else context.gradients
    values = [SCORES[name](gradients, value)[chosen].double().cpu().numpy() for value in given]
    array = np.stack(values) / len(context.split.train)
    dims = ([dim] if dim else []) + ["left_out", "test"]
    score = xr.DataArray(array if dim else array[0], dims=dims, coords=coordinates)
    names = {"left_out": context.split.train.index[chosen], **labels("test", context.evaluated)}
    return context.stamped(xr.Dataset({"score": score.assign_coords(names)}))


def _given(
    context: FinalContext, approximation: Approximation
) -> tuple[str, Sequence[Any], dict[str, Any]]:
    """Return the dim of what the method is computed for, its values, and their coordinates."""
    if approximation.filtered:
        course, rate = _course(context), _rate(context)
        filters = [unrolled(rate, float(step)) for step in course.steps]
        return "step", filters, course.coordinates
    if approximation.dampings:
        return "damping", approximation.dampings, {"damping": list(approximation.dampings)}
    return "", [None], {}


def _course(context: FinalContext) -> Course:
    """Return when further training with SGD is measured, but for its start."""
    recipe, num_train = _sgd(context), len(context.split.train)
    steps = context.system.protocol.measured(recipe, num_train)[1:]
    return Course.of(recipe, num_train, steps=steps)


def _rate(context: FinalContext) -> float:
    return _sgd(context).lr


def _sgd(context: FinalContext) -> Recipe:
    further = context.system.protocol.further
    if "sgd" not in further:
        others = [name for name, own in APPROXIMATIONS.items() if not own.filtered]
        raise UserError(
            f"the filters of a horizon follow SGD, and this task is trained further with "
            f"{', '.join(further)}: choose --methods among {', '.join(others)}"
        )
    return further["sgd"]
