"""Requests for scores: which methods, with which settings and dampings."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayestda.errors import UserError
from bayestda.gradients.blocks import Blocks
from bayestda.gradients.sample import SampleGradients
from bayestda.scores.estimators import APART, METHODS, SUM, Estimator

Method = str | Callable[..., Any]
Known = Mapping[str, Callable[[], Any]]  # arguments that are found only if a method asks for them
Place = tuple[int, ...]  # the damping's number, or nothing
KNOWN = ("horizon", "pace", "rate", "place")


@dataclass(frozen=True)
class Request:
    """One array of scores: a method, and those settings that it takes.

    Attributes:
        name: The array's name.
        estimator: The method's entry in the table, or one made for a function.
        settings: Settings for the method, without the list of dampings.
        dampings: The list of dampings, or None: the array has no dim ``damping``.
    """

    name: str
    estimator: Estimator
    settings: dict[str, Any]
    dampings: tuple[Any, ...] | None = None

    @property
    def sums(self) -> bool:
        """Whether scores of checkpoints are added up as they are made."""
        return self.estimator.combined == SUM

    @property
    def has_checkpoints(self) -> bool:
        """Whether each checkpoint has scores."""
        return self.estimator.combined == APART

    def blocks(
        self, gradients: SampleGradients, known: Known
    ) -> Iterator[tuple[Place, slice, slice, Tensor]]:
        """Yield the scores of one sample of θ: damping, rows, columns, block."""
        together = self.estimator.of_dampings
        if together and len(self.dampings or ()) > 1:
            values = [self._arguments(known, damping)["damping"] for damping in self.dampings or ()]
            for rows, columns, block_Dnm in together(gradients, values):
                for number, block in enumerate(block_Dnm):
                    yield (number,), rows, columns, block
            return
        for place, result in self.results(gradients, known):
            for rows, columns, block in _as_blocks(result, gradients):
                yield place, rows, columns, block

    def results(self, gradients: SampleGradients, known: Known) -> Iterator[tuple[Place, Any]]:
        """Yield what the method gives for each damping."""
        function = self.estimator.function
        run = getattr(function, "blocks", function)
        if self.dampings is None:
            yield (), run(gradients, **self._arguments(known))
            return
        for number, damping in enumerate(self.dampings):
            yield (number,), run(gradients, **self._arguments(known, damping))

    def combined(
        self, parts: Sequence[list[tuple[Place, Any]]]
    ) -> Iterator[tuple[Place, slice, slice, Tensor]]:
        """Yield the scores that a function makes of what all checkpoints of a run gave."""
        combine = self.estimator.combined
        assert callable(combine)
        for of_damping in zip(*parts, strict=True):
            for rows, columns, block in combine([part for _, part in of_damping]):
                yield of_damping[0][0], rows, columns, block

    def of_one(
        self, gradients: SampleGradients, known: Known
    ) -> Iterator[tuple[Place, slice, slice, Tensor]]:
        """Yield the scores of one sample of θ alone, also where checkpoints would be combined."""
        if self.sums or self.has_checkpoints:
            return self.blocks(gradients, known)
        return self.combined([list(self.results(gradients, known))])

    def _arguments(self, known: Known, damping: Any = None) -> dict[str, Any]:
        settings = self.settings if damping is None else {**self.settings, "damping": damping}
        return _arguments(self.name, self.estimator.function, known, settings)


def requests(method: Any, settings: Mapping[str, Any]) -> list[Request]:
    """Return a request for each method, with those settings that it takes.

    Args:
        method: A method, or a list of methods.
        settings: Settings by name. One method has to take all of them. Of several methods each
            gets those that it takes.

    Raises:
        UserError: A method is unknown or listed twice, no method takes a setting, or dampings are
            not numbers.
    """
    methods = list(method) if isinstance(method, list | tuple) else [method]
    if not methods:
        raise UserError("method=[] has no method: give one or more")
    names = [name_of_method(one) for one in methods]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(f"method has {twice!r} twice: scores of one name would overwrite others")
    settings, dampings = _split(settings)
    entries = [_entry(one) for one in methods]
    taken = [_takes(entry.function) for entry in entries]
    asked = [*settings, *(["damping"] if dampings else [])]
    for setting in asked:
        if not any(setting in own for own in taken):
            raise UserError(_refusal(setting, names, taken))
    return [
        Request(
            name, entry, {key: value for key, value in settings.items() if key in own},
            dampings if "damping" in own else None,
        )
        for name, entry, own in zip(names, entries, taken, strict=True)
    ]  # fmt: skip


def sample_scores(
    gradients: SampleGradients,
    methods: Sequence[Method],
    settings: Mapping[str, Any] | None = None,
    known: Mapping[str, Any] | None = None,
) -> dict[str, Tensor]:
    """Return scores of one sample of θ by method: [N M], or [D N M] with a list of dampings.

    Gradients, Jacobian and curvature are computed once for all methods and dampings.

    Args:
        gradients: Gradients of the sample.
        methods: Methods, as in :func:`tda.attribute`.
        settings: Settings of the methods. ``damping`` may be a list.
        known: Facts about the training at the sample, by name: ``horizon``, ``pace``, ``rate``,
            ``place``. A method that asks for one that is missing raises a UserError.
    """
    found = dict(known or {})
    lazily: Known = {name: (lambda name=name: found.get(name)) for name in KNOWN}  # type: ignore[misc]
    return {
        request.name: _collected(request, gradients, lazily)
        for request in requests(list(methods), settings or {})
    }


def _collected(request: Request, gradients: SampleGradients, known: Known) -> Tensor:
    size = (len(gradients.train_data), len(gradients.test_data))
    count = len(request.dampings or ())
    scores: list[Tensor | None] = [None] * max(count, 1)
    for place, rows, columns, block in request.of_one(gradients, known):
        number = place[0] if place else 0
        if tuple(block.shape) == size:
            scores[number] = block
            continue
        whole = block.new_zeros(size) if scores[number] is None else scores[number]
        assert whole is not None
        whole[rows, columns] = block
        scores[number] = whole
    filled = [tensor for tensor in scores if tensor is not None]
    return filled[0] if request.dampings is None else torch.stack(filled)


def name_of_method(method: Method) -> str:
    """Return a method's name: of a function its own, of other callables their class's."""
    if isinstance(method, str):
        return method
    if isinstance(method, partial):
        return name_of_method(method.func)
    return getattr(method, "__name__", type(method).__name__)


def _entry(method: Method) -> Estimator:
    if callable(method):
        return Estimator(method, name_of_method(method))
    if not isinstance(method, str):
        raise UserError(
            f"method={method!r} is no name and no function: give one, or a list of them"
        )
    if method not in METHODS or METHODS[method].retrains:
        names = ", ".join(name for name, entry in METHODS.items() if not entry.retrains)
        why = "trains models again" if method in METHODS else "is unknown"
        raise UserError(f"method={method!r} {why}: choose one of {names}{_instead(method)}")
    return METHODS[method]


def _instead(method: str) -> str:
    if method not in METHODS:
        return ""
    return f", or call {METHODS[method].function.__name__}(posterior, objective, train, test)"


def _split(settings: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Any, ...] | None]:
    """Settings without a list of dampings, and that list."""
    own = dict(settings)
    damping = own.get("damping")
    if isinstance(damping, np.ndarray | Tensor) and damping.ndim == 1:
        damping = damping.tolist()
    several = isinstance(damping, list | tuple | range)
    values: tuple[Any, ...] = tuple(damping) if several else (damping,)  # type: ignore[arg-type]
    for value in values:
        number = isinstance(value, Real) or getattr(value, "ndim", None) == 0
        if not number and value != "horizon" and (several or isinstance(value, str)):
            raise UserError(f"damping has {value!r}: give numbers, or 'horizon'")
        if number and not math.isfinite(float(value)):
            raise UserError(f"damping={float(value)} is not finite: give a number such as 0.1")
    if not several:
        return own, None
    if not values or len(set(values)) < len(values):
        raise UserError(f"damping={list(values)}: give one or more dampings, each once")
    return {key: value for key, value in own.items() if key != "damping"}, values


def _takes(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)[1:]  # 0: gradients


def _refusal(setting: str, names: list[str], taken: list[list[str]]) -> str:
    if len(names) > 1:
        return f"no method of {', '.join(names)} takes {setting!r}: leave it out"
    own = [name for name in taken[0] if name not in KNOWN]
    return f"{names[0]} takes no {setting!r}: its settings are {', '.join(own) or 'none'}"


def _arguments(
    name: str, function: Callable[..., Any], known: Known, settings: dict[str, Any]
) -> dict[str, Any]:
    """The settings, and those facts about the training that the function asks for."""
    wanted = dict(list(inspect.signature(function).parameters.items())[1:])  # 0: gradients
    arguments = {**getattr(function, "keywords", {}), **settings}  # those of a partial
    if arguments.get("damping") == "horizon":
        arguments["damping"] = 1 / _fact("horizon", known)
    for key in wanted:
        if key in KNOWN and key not in arguments:
            arguments[key] = _fact(key, known)
    for key, parameter in wanted.items():
        if parameter.default is parameter.empty and key not in arguments:
            raise UserError(f"{name} needs {key}={_START if key == 'damping' else ''}")
    return arguments


_START = ": damping=0.1 is a value to start with, or give damping='horizon' for a recorded run"
_UNRECORDED = (
    "this method trains again: it needs a posterior from tda.train_posterior, which records how it "
    "was trained"
)
_MISSING = {
    "horizon": "the training's horizon is not known: give "
    "Posterior.from_checkpoints(..., horizons=[sum of learning rates so far, ...]), under Adam "
    "horizons=[tda.adam_horizon(...), ...]",
    "rate": "the training's learning rates are not known: give "
    "Posterior.from_checkpoints(..., learning_rates=[...])",
    "pace": _UNRECORDED,
    "place": "the sample's number in its run is not known: give known={'place': 0, ...}",
}


def _fact(name: str, known: Known) -> Any:
    value = known[name]()
    if value is None:
        raise UserError(_MISSING[name])
    return value


def _as_blocks(result: Tensor | Blocks, gradients: SampleGradients) -> Blocks:
    """Yield scores as blocks; a tensor is one block."""
    if isinstance(result, np.ndarray):
        result = torch.from_numpy(result)
    if not isinstance(result, Tensor):
        yield from result
        return
    size = (len(gradients.train_data), len(gradients.test_data))
    if tuple(result.shape) != size:
        raise UserError(f"the method gave scores {tuple(result.shape)}, not [N, M] = {size}")
    yield slice(0, size[0]), slice(0, size[1]), result
