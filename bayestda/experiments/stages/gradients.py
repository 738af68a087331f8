"""Scores that need gradients only, such as Grad-Dot, Grad-Cos and the influence function.

All methods and dampings that one command asks for are computed in one pass over the gradients.
"""

import inspect
from dataclasses import replace
from functools import partial
from typing import Any

import xarray as xr

from bayestda.experiments import checkpoints
from bayestda.experiments.grid import sign_of
from bayestda.experiments.stages.commands import DEFAULT_DAMPING
from bayestda.experiments.stages.context import Context
from bayestda.experiments.stages.options import Options
from bayestda.experiments.stages.stage import Stage
from bayestda.methods.lissa import PUBLISHED, Lissa, lissa_influence
from bayestda.scores.attribution import attribute
from bayestda.scores.estimators import METHODS
from bayestda.scores.requests import name_of_method


class GradientScores(Stage):
    """Scores of the methods that a command names, from one pass over the gradients."""

    name = "gradients"

    def outputs(self, options: Options) -> tuple[str, ...]:
        return options["methods"]

    def settings(self, context: Context, output: str) -> dict:
        posterior = checkpoints.fingerprint(context.posterior)
        settings: dict = {"method": output, "posterior": posterior, **sign_of(output)}
        if output == "influence_lissa":
            settings |= {"lissa": vars(_lissa(context.options))}
        elif _takes_damping(output):
            settings |= {"damping": context.options["damping"]}
        return settings

    def compute(self, context: Context, items: range, chunk: int) -> dict[str, xr.Dataset]:
        options = context.options
        methods = {output: _method(output, options) for output in options["methods"]}
        settings: dict[str, Any] = {}
        if any(map(_takes_damping, methods)):
            settings["damping"] = list(options["damping"])
        scores = attribute(
            context.as_posterior(), context.objective, context.split.train, context.split.test,
            method=list(methods.values()), memory_gb=context.memory_bytes / 1e9, **settings,
        )  # fmt: skip
        return {
            output: _dataset(context, scores[name_of_method(method)])
            for output, method in methods.items()
        }


def _method(output: str, options: Options) -> Any:
    """Return what computes an output: LiSSA takes the published code's constants as one."""
    if output == "influence_lissa":
        return partial(lissa_influence, settings=_lissa(options))
    return output


def _takes_damping(output: str) -> bool:
    if output == "influence_lissa":
        return False
    return "damping" in inspect.signature(METHODS[output].function).parameters


def _dataset(context: Context, scores: xr.DataArray) -> xr.Dataset:
    """Label the scores of a run as a file of the experiment has them."""
    dims = [str(dim) for dim in scores.dims if dim != "seed"]
    labelled = context.labelled(scores.isel(seed=0).values.astype("float32"), tuple(dims))
    if "damping" not in dims:
        return xr.Dataset({"score": labelled})
    dampings = scores["damping"].values.tolist()
    default = DEFAULT_DAMPING if DEFAULT_DAMPING in dampings else dampings[0]
    labelled = labelled.assign_coords(damping=dampings).transpose("damping", ...)
    return xr.Dataset({"score": labelled}, attrs={"default_damping": default})


def _lissa(options: Options) -> Lissa:
    """Return the recursion's constants: the published ones, but for those that are given."""
    names = {"damping": "damping", "scale": "scale", "batch_size": "batch", "steps": "steps"}
    given = {name: options[f"lissa_{flag}"] for name, flag in names.items()}
    return replace(PUBLISHED, **{name: own for name, own in given.items() if own is not None})
