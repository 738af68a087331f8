"""Scores of all samples of a posterior by all methods, block by block, in one pass."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from bayestda.errors import UserError
from bayestda.gradients.sample import SampleGradients
from bayestda.model.checks import check_objective, check_posterior
from bayestda.model.examples import Examples, examples, labels
from bayestda.model.fitting import fitted
from bayestda.model.looks import look
from bayestda.model.objective import Objective
from bayestda.model.parameters import Parameters
from bayestda.model.precision import matmul_precision
from bayestda.scores.requests import Known, Request, requests, sample_scores
from bayestda.scores.writers import Output
from bayestda.training.horizon import Pace, recorded_paces
from bayestda.training.memory import budget_bytes
from bayestda.training.posterior import Posterior

__all__ = ["Scoring", "sample_scores"]


@dataclass(frozen=True, eq=False)
class Scoring:
    """What is scored, by which samples of θ and by which methods.

    Attributes:
        posterior, objective, method, settings, parameters, memory_gb, scratch: As in
            :func:`tda.attribute`.
        data: Training examples and, unless ``own``, test examples.
        own: Whether only examples' scores for themselves are wanted.
    """

    posterior: Posterior
    objective: Objective
    data: tuple[Any, ...]
    method: Any
    settings: dict[str, Any]
    parameters: str | None = None
    memory_gb: float | None = None
    scratch: str | Path | None = None
    own: bool = False

    def __post_init__(self) -> None:
        check_posterior(self.posterior)
        check_objective(self.objective)

    @property
    def several(self) -> bool:
        """Whether a list of methods was given."""
        return isinstance(self.method, list | tuple)

    @cached_property
    def requests(self) -> list[Request]:
        """One request for each array of scores."""
        return requests(self.method, self.settings)

    def templates(self, *dims: str) -> list[xr.DataArray]:
        """Return labels, sizes and type of each array, on a single zero in memory."""
        placed = [labels(dim, data) for dim, data in zip(dims, self._placed, strict=True)]
        return [self._template(request, dims, placed) for request in self.requests]

    def _template(
        self, request: Request, dims: tuple[str, ...], placed: list[dict[str, Any]]
    ) -> xr.DataArray:
        coords: dict[str, Any] = {}
        if request.dampings is not None:
            numbers = "horizon" not in request.dampings
            coords["damping"] = [float(d) if numbers else str(d) for d in request.dampings]
        coords["seed"] = list(self.posterior.seeds)
        if request.has_checkpoints:
            coords["checkpoint"] = list(self.posterior.checkpoints)
        names = (*coords, *dims)
        for own in placed:
            coords |= own
        attrs = {
            "method": request.name,
            "sign": "positive = helpful: removing the example would raise the measurement",
            **{key: str(value) for key, value in request.settings.items()},
        }
        zero = torch.zeros((), dtype=self._first_P.dtype).numpy()
        sizes = [len(coords[dim]) for dim in names]
        return xr.DataArray(np.broadcast_to(zero, sizes), coords, names, request.name, attrs)

    @matmul_precision(tf32=False)
    def write(self, outputs: Sequence[Output]) -> None:
        """Score by all samples, in full float32, into one output for each request.

        Raises:
            UserError: as :func:`tda.attribute`.
        """
        for run, seed in enumerate(self.posterior.seeds):
            with _decomposed(seed):
                self._write_run(outputs, run, seed)

    def _write_run(self, outputs: Sequence[Output], run: int, seed: int) -> None:
        parts: dict[str, list] = {}  # of methods that need what all checkpoints gave
        for place, sample in enumerate(self._samples(seed)):
            for request, output in zip(self.requests, outputs, strict=True):
                if request.has_checkpoints:
                    for at, rows, columns, block in request.blocks(sample.gradients, sample.known):
                        checked = self._checked(rows, columns, block, seed, place)
                        output.write((*at, run, place), rows, columns, checked)
                elif request.sums:
                    for at, rows, columns, block in request.blocks(sample.gradients, sample.known):
                        self._add(output, (*at, run), rows, columns, block, seed)
                else:
                    results = list(request.results(sample.gradients, sample.known))
                    parts.setdefault(request.name, []).append(results)
        for request, output in zip(self.requests, outputs, strict=True):
            if request.name in parts:
                for at, rows, columns, block in request.combined(parts[request.name]):
                    self._add(output, (*at, run), rows, columns, block, seed)

    def _add(
        self, output: Output, at: tuple[int, ...], rows: slice, columns: slice, block: Tensor,
        seed: int,
    ) -> None:  # fmt: skip
        before = output.read(at, rows, columns)
        checked = self._checked(rows, columns, block, seed)
        output.write(at, rows, columns, before + checked)

    @cached_property
    def _first(self) -> tuple[Tensor, tuple[Examples, ...]]:
        """The first sample, and the examples as its network and the objective take them.

        Raises:
            UserError: scores cannot be taken in the sample's type, or on its device, or targets do
                not fit the objective.
        """
        network = self.posterior.network(self.posterior.seeds[0], 0, self.parameters)
        theta_P = _theta(network)
        _check_precision(theta_P)
        placed = [examples(source, theta_P.device, theta_P.dtype) for source in self.data]
        return theta_P, tuple(
            fitted(data, self.objective, network, measured=number > 0)
            for number, data in enumerate(placed)
        )

    @property
    def _first_P(self) -> Tensor:
        """The first sample, for its device and type."""
        return self._first[0]

    @property
    def _placed(self) -> tuple[Examples, ...]:
        """The examples, as the networks take them."""
        return self._first[1]

    def _samples(self, seed: int) -> Iterator["_Sample"]:
        paces = cache(lambda: recorded_paces(self.posterior, self.objective, self._placed[0], seed))
        for place in range(len(self.posterior.checkpoints)):
            network = self.posterior.network(seed, place, self.parameters)
            if seed == self.posterior.seeds[0] and place == 0:
                train, test = self._placed[0], None if self.own else self._placed[-1]
                look(network, self.objective, train, test)
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
        self, rows: slice, columns: slice, block: Tensor, seed: int, place: int | None = None
    ) -> np.ndarray:
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
        return block.to(self._first_P.dtype).cpu().numpy()


@dataclass(frozen=True, eq=False)
class _Sample:
    """One sample of θ, with what is known of how it was trained."""

    gradients: SampleGradients
    posterior: Posterior
    place: int
    paces: Callable[[], list[Pace]]

    @property
    def known(self) -> Known:
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
        """Return the pace of the parameters that are attributed through.

        Raises:
            UserError: one of them was not trained.
        """
        pace, trained = (
            self.paces()[self.place],
            Parameters(self.posterior.template(self.posterior.seeds[0])),
        )
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
    """Turn a failed decomposition, of a curvature that may not be finite, into a UserError."""
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


def _theta(network: nn.Module) -> Tensor:
    return Parameters(network).read(network)
