"""Stages that need gradients only: Grad-Dot, Grad-Cos and the influence function.

Gradients of a sample of θ are computed once for all methods that one command asks for.
"""

from argparse import ArgumentParser
from collections.abc import Callable

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayestda.curvature.filters import ridge
from bayestda.experiments import checkpoints
from bayestda.experiments.flags import count, size
from bayestda.experiments.grid import METHODS, SIGN
from bayestda.experiments.stages.context import Context, Options
from bayestda.experiments.stages.runner import Stage
from bayestda.gradients.sample import SampleGradients
from bayestda.methods.grad_cos import grad_cos
from bayestda.methods.grad_dot import grad_dot
from bayestda.methods.influence import filtered_influence
from bayestda.methods.lissa import PUBLISHED, Lissa, lissa_influence

DAMPINGS = (1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 10.0)
DEFAULT_DAMPING = 1e-1  # measured: docs/deviations.md, "damping"
DIMS = {"influence": ("damping", "train", "test")}
SCORES: dict[str, Callable[[SampleGradients, Options], Tensor]] = {
    "grad_dot": lambda gradients, _: grad_dot(gradients),
    "grad_cos": lambda gradients, _: grad_cos(gradients),
    "influence": lambda gradients, options: influence_scores(gradients, _dampings(options)),
    "influence_lissa": lambda gradients, options: lissa_influence(gradients, _lissa(options)),
}


def add_flags(parser: ArgumentParser) -> None:
    """``--damping``, ``--solver``, ``--also``."""
    parser.add_argument(
        "--damping", nargs="+", type=size, default=DAMPINGS, metavar="LAMBDA",
        help="dampings of the influence function, all from one eigendecomposition "
        f"(analysis uses {DEFAULT_DAMPING} if it is among them, else the first)",
    )  # fmt: skip
    parser.add_argument(
        "--solver", choices=("exact", "lissa"), default="exact",
        help="of the influence function. exact: Gauss-Newton by its dual; lissa: the recursion "
        "on the Hessian; without further flags with the published constants",
    )  # fmt: skip
    parser.add_argument(
        "--lissa_damping", type=size, default=PUBLISHED.damping, help="LiSSA's damping"
    )
    parser.add_argument("--lissa_scale", type=size, default=PUBLISHED.scale, help="LiSSA's scale")
    parser.add_argument(
        "--lissa_batch",
        type=count,
        default=PUBLISHED.batch_size,
        help="examples of a batch of LiSSA",
    )
    parser.add_argument(
        "--lissa_steps", type=count, help="default: one pass over the training data"
    )
    parser.add_argument(
        "--also", nargs="+", choices=tuple(name for name in SCORES if name in METHODS), default=(),
        help="score these methods too, from the same pass over the gradients",
    )  # fmt: skip


class GradientScores(Stage):
    """Scores of one method, and of those that ``--also`` names."""

    def __init__(self, name: str):
        self.name = name

    def outputs(self, options: Options) -> tuple[str, ...]:
        names = dict.fromkeys((self.name, *options["also"]))
        solved = {"influence": "influence_lissa"} if options["solver"] == "lissa" else {}
        return tuple(solved.get(output, output) for output in names)

    def settings(self, context: Context, output: str) -> dict:
        own: dict[str, dict] = {
            "influence": {"damping": _dampings(context.options), **SIGN},
            "influence_lissa": {"lissa": vars(_lissa(context.options)), **SIGN},
        }
        fingerprint = checkpoints.fingerprint(context.posterior)
        return {"method": output, "posterior": fingerprint, **own.get(output, {})}

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


def influence_scores(gradients: SampleGradients, dampings: list[float]) -> Tensor:
    """[D N M], all from one eigendecomposition."""
    return torch.stack([filtered_influence(gradients, ridge(damping)) for damping in dampings])


def _dataset(context: Context, output: str, scores: list[np.ndarray]) -> xr.Dataset:
    dims = DIMS.get(output, ("train", "test"))
    labelled = context.labelled(np.stack(scores), ("checkpoint", *dims))
    if output != "influence":
        return xr.Dataset({"score": labelled})
    dampings = _dampings(context.options)
    default = DEFAULT_DAMPING if DEFAULT_DAMPING in dampings else dampings[0]
    labelled = labelled.assign_coords(damping=dampings).transpose("damping", ...)
    return xr.Dataset({"score": labelled}, attrs={"default_damping": default})


def _dampings(options: Options) -> list[float]:
    """Each damping once."""
    return list(dict.fromkeys(options["damping"]))


def _lissa(options: Options) -> Lissa:
    return Lissa(
        damping=options["lissa_damping"],
        scale=options["lissa_scale"],
        batch_size=options["lissa_batch"],
        steps=options["lissa_steps"],
    )
