"""Stages that need gradients only: Grad-Dot, Grad-Cos and the influence function.

Gradients of a sample of θ are computed once for all methods that one command asks for.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayestda.curvature.filters import ridge
from bayestda.experiments import checkpoints
from bayestda.experiments.grid import SIGN
from bayestda.experiments.stages.commands import DEFAULT_DAMPING
from bayestda.experiments.stages.context import Context
from bayestda.experiments.stages.options import Options
from bayestda.experiments.stages.stage import Stage
from bayestda.gradients.sample import SampleGradients
from bayestda.methods.grad_cos import grad_cos
from bayestda.methods.grad_dot import grad_dot
from bayestda.methods.influence import filtered_influence
from bayestda.methods.lissa import PUBLISHED, Lissa, lissa_influence

DIMS = {"influence": ("damping", "train", "test")}
SCORES: dict[str, Callable[[SampleGradients, Options], Tensor]] = {
    "grad_dot": lambda gradients, _: grad_dot(gradients),
    "grad_cos": lambda gradients, _: grad_cos(gradients),
    "influence": lambda gradients, options: influence_scores(gradients, options["damping"]),
    "influence_lissa": lambda gradients, options: lissa_influence(gradients, _lissa(options)),
}


class GradientScores(Stage):
    """Scores of the methods that a command names, from one pass over the gradients."""

    name = "gradients"

    def outputs(self, options: Options) -> tuple[str, ...]:
        return options["methods"]

    def settings(self, context: Context, output: str) -> dict:
        settings: dict = {"method": output, "posterior": checkpoints.fingerprint(context.posterior)}
        if output == "influence":
            settings |= {"damping": context.options["damping"], **SIGN}
        if output == "influence_lissa":
            settings |= {"lissa": vars(_lissa(context.options)), **SIGN}
        return settings

    def compute(self, context: Context, items: range, chunk: int) -> dict[str, xr.Dataset]:
        wanted = self.outputs(context.options)
        by_checkpoint = [_scores(context, theta_P, wanted) for theta_P in context.posterior]
        return {
            output: _dataset(context, output, [scores[output] for scores in by_checkpoint])
            for output in wanted
        }


def _scores(context: Context, theta_P: Tensor, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
    gradients = SampleGradients(
        context.network, context.objective, theta_P,
        train=context.split.train, test=context.split.test, memory_bytes=context.memory_bytes,
    )  # fmt: skip
    return {
        output: SCORES[output](gradients, context.options).float().cpu().numpy()
        for output in wanted
    }


def influence_scores(gradients: SampleGradients, dampings: Sequence[float]) -> Tensor:
    """Return scores [D N M] of all dampings, from one eigendecomposition."""
    return torch.stack([filtered_influence(gradients, ridge(damping)) for damping in dampings])


def _dataset(context: Context, output: str, scores: list[np.ndarray]) -> xr.Dataset:
    dims = DIMS.get(output, ("train", "test"))
    labelled = context.labelled(np.stack(scores), ("checkpoint", *dims))
    if output != "influence":
        return xr.Dataset({"score": labelled})
    dampings = list(context.options["damping"])
    default = DEFAULT_DAMPING if DEFAULT_DAMPING in dampings else dampings[0]
    labelled = labelled.assign_coords(damping=dampings).transpose("damping", ...)
    return xr.Dataset({"score": labelled}, attrs={"default_damping": default})


def _lissa(options: Options) -> Lissa:
    """Return the recursion's constants: the published ones, but for those that are given."""
    names = {"damping": "damping", "scale": "scale", "batch_size": "batch", "steps": "steps"}
    given = {name: options[f"lissa_{flag}"] for name, flag in names.items()}
    return replace(PUBLISHED, **{name: own for name, own in given.items() if own is not None})
