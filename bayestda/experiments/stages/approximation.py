"""Stage: what each method says about a final model's further training, for left-out examples."""

from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from bayestda.experiments.final_models import FinalModels
from bayestda.experiments.stages.context import Options
from bayestda.experiments.stages.final_context import FinalContext
from bayestda.experiments.stages.further_training import FinalStage
from bayestda.experiments.stages.runner import Result
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

DAMPINGS = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
SOLVED = (0.1, 1.0)  # where each damping costs an iterative solution
SOLVED_HESSIAN = (*SOLVED, 10.0)  # the true Hessian may have eigenvalues below minus the first
LISSA_STEPS, LISSA_BATCH = 100, 128
PROJECTION = 512  # of TRAK


@dataclass(frozen=True)
class Approximation:
    """A method in this stage.

    Attributes:
        score: from gradients of the final model and a damping or filter to scores [N M], positive
            = helpful, for examples of weight 1 and not 1/n.
        dampings: to compute it for; () if it has none.
        filtered: whether it takes the filter of SGD's horizon at each measured epoch instead.
        thorough: whether it costs (N·K)² numbers, or hundreds of products with a curvature for each
            test example.
        layers: whether it covers linear and convolutional layers alone: scores are through these.
    """

    score: Callable[[SampleGradients, Any], Tensor]
    dampings: Sequence[float] = ()
    filtered: bool = False
    thorough: bool = False
    layers: bool = False


def filtered(gradients: SampleGradients, phi: Filter) -> Tensor:
    """∇gᵀ φ(C) ∇L_i with the exact Gauss-Newton matrix."""
    size = (len(gradients.train_data), len(gradients.test_data))
    return collected(dual_gauss_newton(gradients).filtered(phi), size)


def scaled_lissa(gradients: SampleGradients, damping: float, curvature: str) -> Tensor:
    """LiSSA with a scale that makes it converge: twice the largest eigenvalue, and the damping."""
    if "largest" not in gradients.kept:
        gradients.kept["largest"] = largest_eigenvalue(
            training_products(gradients, "gauss_newton"), gradients.theta_P
        )
    return lissa(
        gradients, damping, scale=2 * gradients.kept["largest"] + damping, steps=LISSA_STEPS,
        batch_size=LISSA_BATCH, curvature=curvature,
    )  # fmt: skip


def proposition_1_if_defined(gradients: SampleGradients, damping: float) -> Tensor:
    """Proposition 1; not a number where H + λ is not positive definite and Δ(D) does not exist."""
    try:
        return proposition_1(gradients, damping)
    except Indefinite:
        size = len(gradients.train_data), len(gradients.test_data)
        return torch.full(size, torch.nan)


def projection(num_train: int) -> int:
    """Dimensions of TRAK's projection: less than there are examples."""
    return PROJECTION if num_train > PROJECTION else num_train // 2


def default_methods(models: FinalModels) -> tuple[str, ...]:
    """Methods for a task unless others are asked for: those that fit its size and optimiser."""
    small, has_horizon = models.protocol.small, "sgd" in models.protocol.further
    if models.pretrained and not models.lora:  # others take minutes and 10 GB even of MiniLM
        return "grad_dot", "grad_cos"
    return tuple(
        name
        for name, own in APPROXIMATIONS.items()
        if (small or not own.thorough) and (has_horizon or not own.filtered)
    )


def _ekfac(gradients: SampleGradients, phi: Filter) -> Tensor:
    return filtered_ekfac_influence(gradients, phi)


APPROXIMATIONS = {
    "grad_dot": Approximation(lambda gradients, _: grad_dot(gradients)),
    "grad_cos": Approximation(lambda gradients, _: grad_cos(gradients)),
    "influence": Approximation(
        lambda g, damping: filtered(g, ridge(damping)), DAMPINGS, thorough=True
    ),
    "corollary_2": Approximation(
        lambda g, damping: generalised(g, ridge(damping)), DAMPINGS, thorough=True
    ),
    "equation_16": Approximation(near_stationary, DAMPINGS, thorough=True),
    "horizon": Approximation(filtered, filtered=True, thorough=True),
    "horizon_generalised": Approximation(generalised, filtered=True, thorough=True),
    "horizon_linearised": Approximation(linearised, filtered=True, thorough=True),
    "horizon_ekfac": Approximation(_ekfac, filtered=True, layers=True),
    "ekfac": Approximation(lambda g, damping: _ekfac(g, ridge(damping)), DAMPINGS, layers=True),
    "datainf": Approximation(lambda gradients, _: datainf(gradients)),
    "trak": Approximation(
        lambda gradients, _: trak(gradients, projection(len(gradients.train_data)))
    ),
    "cg": Approximation(cg_influence, SOLVED, thorough=True),
    "lissa": Approximation(
        lambda g, damping: scaled_lissa(g, damping, "gauss_newton"), SOLVED, thorough=True
    ),
    "lissa_h": Approximation(
        lambda g, damping: scaled_lissa(g, damping, "hessian"), SOLVED, thorough=True
    ),
    "proposition_1": Approximation(proposition_1_if_defined, SOLVED_HESSIAN, thorough=True),
}


def add_approximation_flags(parser: ArgumentParser) -> None:
    """``--methods``."""
    parser.add_argument(
        "--methods", nargs="+", choices=tuple(APPROXIMATIONS),
        help="which, from one pass over the gradients; default: all that fit the task's size and "
        "optimiser. The exact Gauss-Newton matrix (influence, corollary_2, equation_16, horizon, "
        "horizon_generalised, horizon_linearised) needs memory for (N K)^2 numbers",
    )  # fmt: skip


class Approximate(FinalStage):
    """Scores of left-out examples by each method, an output each."""

    name, chosen_by = "approximate", "methods"

    def resolved(self, models: FinalModels, flags: dict) -> dict:
        return {**flags, "methods": flags["methods"] or default_methods(models)}

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
    """``score`` of one method, dims (train_seed, [damping or step], left_out, test).

    In the scale of a removal where the method has one: with the factor 1/n.
    """
    approximation = APPROXIMATIONS[name]
    dim, given, coordinates = _given(context, approximation)
    chosen = list(context.left_out)
    gradients = context.layer_gradients if approximation.layers else context.gradients
    values = [
        approximation.score(gradients, value)[chosen].double().cpu().numpy() for value in given
    ]
    array = np.stack(values) / len(context.split.train)
    dims = ([dim] if dim else []) + ["left_out", "test"]
    score = xr.DataArray(array if dim else array[0], dims=dims, coords=coordinates)
    names = {"left_out": context.split.train.index[chosen], **labels("test", context.evaluated)}
    return context.stamped(xr.Dataset({"score": score.assign_coords(names)}))


def _given(
    context: FinalContext, approximation: Approximation
) -> tuple[str, Sequence[Any], dict[str, Any]]:
    """The dim of what the method is computed for, its values, and their coordinates."""
    if approximation.filtered:
        course, rate = _course(context), _rate(context)
        filters = [unrolled(rate, float(step)) for step in course.steps]
        return "step", filters, course.coordinates
    if approximation.dampings:
        return "damping", approximation.dampings, {"damping": list(approximation.dampings)}
    return "", [None], {}


def _course(context: FinalContext) -> Course:
    """When further training with SGD is measured, but for its start."""
    recipe, num_train = _sgd(context), len(context.split.train)
    steps = context.experiment.protocol.measured(recipe, num_train)[1:]
    return Course.of(recipe, num_train, steps=steps)


def _rate(context: FinalContext) -> float:
    return _sgd(context).lr


def _sgd(context: FinalContext) -> Recipe:
    further = context.experiment.protocol.further
    if "sgd" not in further:
        others = [name for name, own in APPROXIMATIONS.items() if not own.filtered]
        raise UserError(
            f"the filters of a horizon follow SGD, and this task is trained further with "
            f"{', '.join(further)}: choose --methods among {', '.join(others)}"
        )
    return further["sgd"]
