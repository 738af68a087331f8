"""Scores of every sample of a posterior, for any model: what ``import tda`` offers.

**Sign, orientation, scale.** A score is positive where the training example helps: where removing
it would raise the measurement on the test example (by default its loss). Rows are training
examples, columns test examples. Gradient methods give ∇g(z)ᵀ φ(C) ∇L(z_j) with C the curvature of
the *mean* training loss, so that a score of an influence function divided by N estimates
leave-one-out, g(z; θ without z_j) − g(z; θ), which is the scale of ``loo``.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from tda.errors import UserError
from tda.examples import Examples, examples, labels
from tda.gradients import SampleGradients
from tda.memory import budget_bytes
from tda.methods import METHODS
from tda.objective import Objective, measuring
from tda.pace import Pace
from tda.parameters import Parameters
from tda.posterior import Posterior
from tda.retraining import recorded_paces

Method = str | Callable[..., Tensor]


def attribute(
    posterior: Posterior,
    objective: Objective,
    train: Any,
    test: Any,
    *,
    method: Method = "influence",
    parameters: str | None = None,
    memory_gb: float | None = None,
    scratch: str | Path | None = None,
    **settings: Any,
) -> xr.DataArray:
    """Scores of all training examples for all test examples, by every sample of θ.

    Args:
        posterior: samples of θ.
        objective: loss and measurement, such as :class:`tda.Classification`.
        train, test: examples, as :func:`tda.examples.examples` takes them.
        method: a name from ``tda.METHODS``, or a function from
            :class:`tda.gradients.SampleGradients` (and the settings) to scores [N M].
        parameters: patterns of the parameters to attribute through, such as ``"head.*"``.
        memory_gb: what gradients may take; default: most of what is free.
        scratch: a folder for gradients and scores of one sample that do not fit into memory_gb;
            None: gradients are computed again when needed.
        settings: of the method. ``damping="horizon"`` is λ = 1/τ of the recorded training, with τ
            = Σ_t η_t for plain gradient descent (:mod:`tda.pace` says what it is for others).

    Returns:
        Dims (seed, checkpoint, train, test); methods that sum over checkpoints, such as
        ``tracin``, have no dim checkpoint. Positive = helpful.

    Raises:
        UserError: what is given does not fit together; the message says how to mend it.
    """
    function, combine = _found(method)
    runs = []
    for seed in posterior.seeds:
        scores = []
        limits = (memory_gb, scratch)
        for sample in _samples(posterior, objective, (train, test), seed, parameters, limits):
            result = function(sample.gradients, **_arguments(function, sample, settings))
            scores.append(result if combine else _checked(result, sample))
        runs.append(_checked(combine(scores), sample) if combine else torch.stack(scores))
    return _labelled(torch.stack(runs), posterior, sample.gradients, method, settings)


def self_influence(
    posterior: Posterior, objective: Objective, train: Any, **settings: Any
) -> xr.DataArray:
    """Every training example's score for itself, with its loss as measurement.

    Large for what only the example itself supports: mislabelled or atypical ones. An influence
    function of itself (times 1/N) is the loss on z_j that its removal would add.

    Args:
        posterior, objective, train: as in :func:`attribute`.
        settings: ``method`` and further arguments of :func:`attribute`.

    Returns:
        Dims (seed, checkpoint, train).
    """
    measured = measuring(objective, "loss")
    scores = attribute(posterior, measured, train, train, **settings)
    diagonal = scores.values[..., range(scores.sizes["train"]), range(scores.sizes["train"])]
    template = scores.isel(test=0, drop=True)
    return template.copy(data=diagonal)


def group_scores(scores: xr.DataArray, groups: Any) -> xr.DataArray:
    """Scores of groups of training examples: the sum over their members.

    Right for every method that is linear in the removed examples (all gradient methods); how far
    retraining is from that shows :func:`leave_group_out`.

    Args:
        scores: dims (..., train, test).
        groups: booleans [G N], True for members.

    Returns:
        Dims (..., group, test).
    """
    member_GN = np.asarray(groups)
    if member_GN.dtype != bool or member_GN.shape[1:] != (scores.sizes["train"],):
        raise UserError(
            f"groups must be booleans [G, {scores.sizes['train']}], one column per training "
            f"example, not {member_GN.dtype} {member_GN.shape}"
        )
    membership = xr.DataArray(member_GN.astype(scores.dtype), dims=("group", "train"))
    dims = [dim if dim != "train" else "group" for dim in scores.dims]
    return (scores * membership).sum("train").transpose(*dims)


@dataclass(frozen=True, eq=False)
class _Sample:
    """One sample of θ, with what is known of how it was trained."""

    gradients: SampleGradients
    posterior: Posterior
    seed: int
    place: int
    paces: Callable[[], list[Pace]]

    @property
    def known(self) -> dict[str, Callable[[], Any]]:
        """Arguments that methods may ask for by name, and how they are found."""
        posterior, place = self.posterior, self.place
        recorded = posterior.training is not None
        return {
            "horizon": lambda: (
                self.paces()[place].horizon if recorded
                else posterior.horizons and posterior.horizons[place]
            ),
            "pace": lambda: self.paces()[place] if recorded else None,
            "rate": lambda: posterior.learning_rates and posterior.learning_rates[place],
            "training": lambda: posterior.training,
            "seed_id": lambda: self.seed,
            "place": lambda: place,
        }  # fmt: skip


def _samples(
    posterior: Posterior,
    objective: Objective,
    data: tuple[Any, Any],
    seed: int,
    parameters: str | None,
    limits: tuple[float | None, str | Path | None],
) -> Iterator[_Sample]:
    placed: list[Examples] | None = None
    paces = cache(lambda: recorded_paces(posterior, objective, data[0], seed))
    for place in range(len(posterior.checkpoints)):
        network = posterior.network(seed, place, parameters)
        theta_P = _theta(network)
        placed = placed or [examples(source, theta_P.device, theta_P.dtype) for source in data]
        gradients = SampleGradients(
            network, objective, theta_P, train=placed[0], test=placed[1],
            memory_bytes=budget_bytes(limits[0], theta_P.device), scratch=limits[1],
        )  # fmt: skip
        try:
            yield _Sample(gradients, posterior, seed, place, paces)
        finally:
            if gradients.scratch:
                gradients.scratch.close()


def _theta(network: nn.Module) -> Tensor:
    try:
        return Parameters(network).read(network)
    except ValueError as error:
        raise UserError(str(error)) from error


def _found(method: Method) -> tuple[Callable[..., Tensor], Callable | None]:
    if callable(method):
        return method, None
    if method not in METHODS:
        raise UserError(f"method={method!r} is unknown: choose one of {', '.join(METHODS)}")
    return METHODS[method]


def _arguments(function: Callable, sample: _Sample, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, and of what is known of the training that which the function asks for."""
    wanted = inspect.signature(function).parameters
    unknown = [name for name in settings if name not in wanted]
    if unknown:
        own = [name for name in wanted if name not in ("gradients", *sample.known)]
        raise UserError(
            f"{function.__name__} takes no {unknown[0]!r}: its settings are "
            f"{', '.join(own) or 'none'}"
        )
    arguments = dict(settings)
    if arguments.get("damping") == "horizon":
        arguments["damping"] = 1 / _known("horizon", sample)
    for name in wanted:
        if name in sample.known and name not in arguments:
            arguments[name] = _known(name, sample)
    missing = [
        name
        for name, parameter in wanted.items()
        if parameter.default is parameter.empty and name not in arguments and name != "gradients"
    ]
    if missing:
        raise UserError(f"{function.__name__} needs {missing[0]}=")
    return arguments


_UNRECORDED = (
    "this method trains again: it needs a posterior from tda.train_posterior, which records how it "
    "was trained"
)


def _known(name: str, sample: _Sample) -> Any:
    value = sample.known[name]()
    if value is None:
        raise UserError(
            {
                "horizon": "the training's horizon is not known: give "
                "Posterior.from_checkpoints(..., horizons=[sum of learning rates so far, ...])",
                "rate": "the training's learning rates are not known: give "
                "Posterior.from_checkpoints(..., learning_rates=[...])",
                "training": _UNRECORDED,
                "pace": _UNRECORDED,
            }[name]
        )
    return value


def _checked(scores_NM: Tensor, sample: _Sample) -> Tensor:
    size = (len(sample.gradients.train_data), len(sample.gradients.test_data))
    if tuple(scores_NM.shape) != size:
        raise UserError(f"the method gave scores {tuple(scores_NM.shape)}, not [N, M] = {size}")
    finite = scores_NM.isfinite()
    if not finite.all():
        row, column = (~finite).nonzero()[0].tolist()
        raise UserError(
            f"the score of training example {row} for test example {column} is not finite (seed "
            f"{sample.seed}, checkpoint {sample.place}): look for NaN or infinite inputs there, "
            "or gradients that overflow; float64 networks and inputs help"
        )
    return scores_NM.to(sample.gradients.theta_P.dtype).cpu()


def _labelled(
    scores: Tensor,
    posterior: Posterior,
    gradients: SampleGradients,
    method: Method,
    settings: dict[str, Any],
) -> xr.DataArray:
    dims: tuple[str, ...] = ("seed", "checkpoint", "train", "test")
    coords: dict[str, Any] = {"seed": list(posterior.seeds)}
    if scores.ndim == 4:
        coords["checkpoint"] = list(posterior.checkpoints)
    else:
        dims = ("seed", "train", "test")
    coords |= labels("train", gradients.train_data) | labels("test", gradients.test_data)
    name = method if isinstance(method, str) else method.__name__
    attrs = {
        "method": name,
        "sign": "positive = helpful: removing the example would raise the measurement",
        **{key: str(value) for key, value in settings.items()},
    }
    return xr.DataArray(scores.numpy(), dims=dims, coords=coords, name=name, attrs=attrs)
