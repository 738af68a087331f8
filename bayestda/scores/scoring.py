"""Scores of all samples of a posterior, made block by block."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from bayestda.errors import UserError
from bayestda.gradients.blocks import Blocks
from bayestda.gradients.sample import SampleGradients
from bayestda.methods import METHODS, Combine
from bayestda.model.examples import Examples, examples, labels
from bayestda.model.objective import Objective
from bayestda.model.parameters import Parameters
from bayestda.model.precision import matmul_precision
from bayestda.scores.writers import Output
from bayestda.training.horizon import Pace, recorded_paces
from bayestda.training.memory import budget_bytes
from bayestda.training.posterior import Posterior

Method = str | Callable[..., Tensor]


@dataclass(frozen=True, eq=False)
class Scoring:
    """What is scored, by which samples, how.

    Attributes:
        posterior, objective, method, settings, parameters, memory_gb, scratch: as in
            :func:`tda.attribute`.
        data: training examples and, unless ``own``, test examples.
        own: only an example's score for itself.
    """

    posterior: Posterior
    objective: Objective
    data: tuple[Any, ...]
    method: Method
    settings: dict[str, Any]
    parameters: str | None = None
    memory_gb: float | None = None
    scratch: str | Path | None = None
    own: bool = False

    def template(self, *dims: str) -> xr.DataArray:
        """Labels, sizes and type of the scores, on a single zero in memory."""
        coords: dict[str, Any] = {"seed": list(self.posterior.seeds)}
        if self._found[1] is None:
            coords["checkpoint"] = list(self.posterior.checkpoints)
        names = (*coords, *dims)
        for dim, data in zip(dims, self._placed, strict=True):
            coords |= labels(dim, data)
        name = _name(self.method)
        attrs = {
            "method": name,
            "sign": "positive = helpful: removing the example would raise the measurement",
            **{key: str(value) for key, value in self.settings.items()},
        }
        zero = torch.zeros((), dtype=self._first_P.dtype).numpy()
        sizes = [len(coords[dim]) for dim in names]
        return xr.DataArray(np.broadcast_to(zero, sizes), coords, names, name, attrs)

    @matmul_precision(tf32=False)
    def write(self, output: Output) -> None:
        """Score by all samples, in full float32.

        Raises:
            UserError: as :func:`tda.attribute`.
        """
        combine = self._found[1]
        for run, seed in enumerate(self.posterior.seeds):
            with _decomposed(seed):
                if combine:
                    self._combined(output, combine, run, seed)
                    continue
                for place, blocks in enumerate(self._results(seed)):
                    for rows, columns, block in self._checked(blocks, seed, place):
                        output.write((run, place), rows, columns, block)

    def _combined(self, output: Output, combine: Combine, run: int, seed: int) -> None:
        for rows, columns, block in self._checked(combine(self._results(seed)), seed):
            before = output.read((run,), rows, columns)
            output.write((run,), rows, columns, before + block)

    @cached_property
    def _found(self) -> tuple[Callable[..., Any], Combine | None]:
        if callable(self.method):
            return self.method, None
        if self.method not in METHODS:
            names = ", ".join(METHODS)
            raise UserError(f"method={self.method!r} is unknown: choose one of {names}")
        return METHODS[self.method]

    @cached_property
    def _first_P(self) -> Tensor:
        """The first sample, for its device and type.

        Raises:
            UserError: scores cannot be taken in its type, or on its device.
        """
        theta_P = _theta(self.posterior.network(self.posterior.seeds[0], 0, self.parameters))
        _check_precision(theta_P)
        return theta_P

    @cached_property
    def _placed(self) -> tuple[Examples, ...]:
        """The examples, as the networks take them."""
        like = self._first_P
        return tuple(examples(source, like.device, like.dtype) for source in self.data)

    def _results(self, seed: int) -> Iterator[Any]:
        """What the method gives, of each checkpoint of a run."""
        function = self._found[0]
        for sample in self._samples(seed):
            arguments = _arguments(function, sample, self.settings)
            result = getattr(function, "blocks", function)(sample.gradients, **arguments)
            yield _whole(result, sample.gradients) if isinstance(result, Tensor) else result

    def _samples(self, seed: int) -> Iterator["_Sample"]:
        paces = cache(lambda: recorded_paces(self.posterior, self.objective, self._placed[0], seed))
        for place in range(len(self.posterior.checkpoints)):
            network = self.posterior.network(seed, place, self.parameters)
            theta_P = _theta(network)
            gradients = SampleGradients(
                network, self.objective, theta_P, train=self._placed[0], test=self._placed[-1],
                memory_bytes=budget_bytes(self.memory_gb, theta_P.device), scratch=self.scratch,
                own=self.own,
            )  # fmt: skip
            try:
                yield _Sample(gradients, self.posterior, place, paces)
            finally:
                if gradients.scratch:
                    gradients.scratch.close()

    def _checked(
        self, blocks: Blocks, seed: int, place: int | None = None
    ) -> Iterator[tuple[slice, slice, np.ndarray]]:
        for rows, columns, block in blocks:
            finite = block.isfinite()
            if not finite.all():
                row, column = (~finite).nonzero()[0].tolist()
                checkpoint = "" if place is None else f", checkpoint {place}"
                raise UserError(
                    f"the score of training example {rows.start + row} for test example "
                    f"{columns.start + column} is not finite (seed {seed}{checkpoint}): look for "
                    "NaN or infinite inputs there, or gradients that overflow; float64 networks "
                    "and inputs help"
                )
            yield rows, columns, block.to(self._first_P.dtype).cpu().numpy()


@dataclass(frozen=True, eq=False)
class _Sample:
    """One sample of θ, with what is known of how it was trained."""

    gradients: SampleGradients
    posterior: Posterior
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
            "pace": lambda: self._pace() if recorded else None,
            "rate": lambda: posterior.learning_rates and posterior.learning_rates[place],
            "place": lambda: place,
        }  # fmt: skip

    def _pace(self) -> Pace:
        """Of the parameters that are attributed through.

        Raises:
            UserError: one of them was not trained.
        """
        pace, trained = self.paces()[self.place], Parameters(self.posterior.build())
        frozen = [name for name in self.gradients.layout.shapes if name not in trained.shapes]
        if frozen:
            raise UserError(
                f"{frozen[0]} was not trained, so nothing is known of its steps: leave it out of "
                "parameters=, or take a method that needs no record of them"
            )
        own_P = self.gradients.layout.join(trained.split(pace.scale_P))
        return replace(pace, scale_P=own_P)


@contextmanager
def _decomposed(seed: int) -> Iterator[None]:
    """Eigenvalues are asked for, of a curvature that may not be finite."""
    try:
        yield
    except torch.linalg.LinAlgError as error:
        raise UserError(
            f"the curvature cannot be decomposed (seed {seed}): look for NaN or infinite inputs, "
            "or gradients that overflow; a larger damping, float64 networks and inputs help"
        ) from error


def _check_precision(theta_P: Tensor) -> None:
    if theta_P.dtype not in (torch.float32, torch.float64):
        raise UserError(
            f"the network's parameters are {str(theta_P.dtype).removeprefix('torch.')}: scores are "
            "taken in float32 or float64, so let build give network.float() or network.double()"
        )
    try:
        theta_P[:1].double()
    except (RuntimeError, TypeError) as error:
        raise UserError(
            f"{theta_P.device.type} has no float64, in which losses are taken: let build put the "
            "network on the CPU"
        ) from error


def _name(method: Method) -> str:
    """Of a function, of what a ``partial`` calls, or of a callable object's class."""
    if isinstance(method, str):
        return method
    if isinstance(method, partial):
        return _name(method.func)
    return getattr(method, "__name__", type(method).__name__)


def _theta(network: nn.Module) -> Tensor:
    return Parameters(network).read(network)


def _arguments(function: Callable, sample: _Sample, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, and of what is known of the training that which the function asks for."""
    wanted = dict(list(inspect.signature(function).parameters.items())[1:])  # 0: gradients
    unknown = [name for name in settings if name not in wanted]
    if unknown:
        own = [name for name in wanted if name not in sample.known]
        raise UserError(
            f"{_name(function)} takes no {unknown[0]!r}: its settings are "
            f"{', '.join(own) or 'none'}"
        )
    arguments = {**getattr(function, "keywords", {}), **settings}  # those of a partial
    if arguments.get("damping") == "horizon":
        arguments["damping"] = 1 / _known("horizon", sample)
    for name in wanted:
        if name in sample.known and name not in arguments:
            arguments[name] = _known(name, sample)
    missing = [
        name
        for name, parameter in wanted.items()
        if parameter.default is parameter.empty and name not in arguments
    ]
    if missing:
        raise UserError(f"{_name(function)} needs {missing[0]}=")
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
                "pace": _UNRECORDED,
            }[name]
        )
    return value


def _whole(scores_NM: Tensor, gradients: SampleGradients) -> Blocks:
    """All scores as one block."""
    size = (len(gradients.train_data), len(gradients.test_data))
    if tuple(scores_NM.shape) != size:
        raise UserError(f"the method gave scores {tuple(scores_NM.shape)}, not [N, M] = {size}")
    yield slice(0, size[0]), slice(0, size[1]), scores_NM
