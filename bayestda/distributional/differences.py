r"""Compute differences between two distributions from a sample of each: after less before.

Samples are arrays [S ...], runs first. Where they are paired, row i of both is the same run, with
and without the removal. No difference here needs that, but its error depends on it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayestda.errors import UserError

Sample = np.ndarray  # [S ...]
Statistic = Callable[[Sample], np.ndarray]  # [S ...] -> [...]


@dataclass(frozen=True)
class Difference:
    """Name a difference of two distributions and compute it.

    Attributes:
        name: Name of the difference.
        function: A function from samples before and after, [S ...] and [S' ...], to [...].
        of_statistic: Whether it is a statistic after less the same statistic before, so that
            another sample before adds the same to all removals.
    """

    name: str
    function: Callable[[Sample, Sample], np.ndarray]
    of_statistic: bool = False

    def __call__(self, before: Sample, after: Sample) -> np.ndarray:
        """Return the difference [...] in float64."""
        return self.function(np.asarray(before, np.float64), np.asarray(after, np.float64))


def of_statistic(name: str, statistic: Statistic) -> Difference:
    """Return the difference that is a statistic after less the same statistic before."""
    return Difference(name, lambda before, after: statistic(after) - statistic(before), True)


def wasserstein(before: Sample, after: Sample) -> np.ndarray:
    r"""Return the Wasserstein-2 distance of two samples, :math:`(\int (F^{-1} - G^{-1})^2)^{1/2}`.

    In one dimension the monotone coupling is optimal, so samples are sorted. If a sample is only
    moved, the result is the distance moved.

    Args:
        before: Sample [S ...].
        after: Sample [S' ...].
    """
    before, after = np.sort(before, axis=0), np.sort(after, axis=0)
    if len(before) == len(after):
        return np.sqrt(np.mean((after - before) ** 2, axis=0))
    # For unequal sizes both quantile functions are constant between the steps of either one: the
    # integral is a sum over these intervals, of the values at their middle.
    steps = np.unique([i / len(s) for s in (before, after) for i in range(1, len(s) + 1)])
    width, middle = np.diff(steps, prepend=0.0), steps - np.diff(steps, prepend=0.0) / 2
    first, second = (s[(middle * len(s)).astype(int)] for s in (before, after))
    return np.sqrt(np.tensordot(width, (second - first) ** 2, axes=1))


def quantile(q: float) -> Difference:
    """Return the difference of q-quantiles, after less before.

    Quantiles are interpolated linearly, as by ``numpy.quantile``.

    Args:
        q: Share between 0 and 1.

    Raises:
        UserError: q is not between 0 and 1.
    """
    if not 0 <= q <= 1:
        raise UserError(f"quantile({q}) does not exist: give a share between 0 and 1")
    return of_statistic(f"quantile({q})", lambda sample: np.quantile(sample, q, axis=0))


def tail(c: Any) -> Difference:
    """Return the difference of tail probabilities P(m > c), after less before.

    Args:
        c: Threshold, one for all test points or one each [M].
    """
    threshold = np.asarray(c)
    name = "tail" if threshold.ndim else f"tail({c})"
    return of_statistic(name, lambda sample: (sample > threshold).mean(axis=0))


DIFFERENCES = {
    "mean": of_statistic("mean", lambda sample: sample.mean(axis=0)),
    "variance": of_statistic("variance", lambda sample: sample.var(axis=0, ddof=1)),
    "std": of_statistic("std", lambda sample: sample.std(axis=0, ddof=1)),
    "wasserstein": Difference("wasserstein", wasserstein),
}


def difference_of(choice: str | Callable[[Sample, Sample], Any]) -> Difference:
    """Return a difference from its name or a function.

    Args:
        choice: A name, a difference of this module, or any function of two samples [S], [S'].

    Raises:
        UserError: No difference has this name.
    """
    if isinstance(choice, Difference):
        return choice
    if callable(choice):
        return Difference(getattr(choice, "__name__", "difference"), _one_by_one(choice))
    if choice not in DIFFERENCES:
        raise UserError(
            f"difference={choice!r} is unknown: choose one of {', '.join(DIFFERENCES)}, "
            "tda.quantile(q), tda.tail(c), or give a function of two samples"
        )
    return DIFFERENCES[choice]


def _one_by_one(function: Callable[[Sample, Sample], Any]) -> Callable[[Sample, Sample], Any]:
    """Extend a function of two samples [S], [S'] to samples [S ...], [S' ...]."""

    def each(before: Sample, after: Sample) -> np.ndarray:
        before = np.broadcast_to(before, (len(before), *after.shape[1:]))
        values = np.empty(after.shape[1:])
        for cell in np.ndindex(values.shape):
            values[cell] = float(function(before[:, *cell], after[:, *cell]))
        return values

    return each
