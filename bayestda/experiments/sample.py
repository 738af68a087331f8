"""Scores of one method, and what is computed from them once for all metrics."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from bayestda import statistics


class Estimate(NamedTuple):
    """A value with its 95 % interval over seeds; NaN where no interval is known."""

    value: float
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True, eq=False)
class Sample:
    """Scores of independent runs by one method: what a metric is computed from.

    Attributes:
        scores: Dims (seed, checkpoint, train, test), or without checkpoint.
        reference: LOO scores of the same seeds; None for metrics of one method.
        test_loss: Losses of the base runs, dims (seed, checkpoint, test), where LOO has them.
    """

    scores: xr.DataArray
    reference: xr.DataArray | None = None
    test_loss: xr.DataArray | None = None

    @cached_property
    def runs(self) -> xr.DataArray:
        """Means over checkpoints, dims (seed, train, test)."""
        return statistics.run_means(self.scores)

    @cached_property
    def pairs(self) -> xr.Dataset:
        """Statistics over seeds of each train-test pair."""
        return per_pair(self.runs)

    @cached_property
    def reliability(self) -> dict[str, Estimate]:
        """What :func:`bayestda.statistics.reliability` says of the method."""
        return _by_quantity(statistics.reliability(self.runs))

    @cached_property
    def agreement(self) -> dict[str, Estimate]:
        """What :func:`bayestda.statistics.agreement` says of the method and LOO."""
        if self.reference is None:
            raise ValueError("a sample without LOO has no agreement with it")
        return _by_quantity(statistics.agreement(self.runs, self.reference))


def per_pair(runs: xr.DataArray) -> xr.Dataset:
    """Compute all statistics of each train-test pair.

    Args:
        runs: Dims (seed, train, test).

    Returns:
        mean, std, t, p, q, sign_agreement, published_p, dims (train, test), and n_seeds.
    """
    tested = statistics.student_t(runs)
    return tested.assign(
        q=statistics.benjamini_hochberg(tested["p"]),
        sign_agreement=statistics.sign_agreement(runs),
        published_p=statistics.published_p(runs),
        n_seeds=runs.sizes["seed"],
    )


def over_seeds(quantity: Callable[..., float]) -> Callable[[Sample], Estimate]:
    """Make a metric's computation of a function of runs, with a jackknife interval over seeds.

    Args:
        quantity: Function of the runs, dims (seed, train, test), and with LOO of its runs as well.
    """

    def compute(sample: Sample) -> Estimate:
        maps = [runs for runs in (sample.runs, sample.reference) if runs is not None]
        seeds = np.arange(sample.runs.sizes["seed"])
        value = float(quantity(*maps))
        # Two seeds tell nothing of the spread: the interval is then not a number.
        left_out = [
            float(quantity(*(runs.isel(seed=np.delete(seeds, seed)) for runs in maps)))
            for seed in (seeds if len(seeds) > 2 else [])
        ]
        interval = statistics.jackknife_interval(np.array(value), [np.array(left_out)])
        return Estimate(value, float(interval.low), float(interval.high))

    return compute


def _by_quantity(table: pd.DataFrame) -> dict[str, Estimate]:
    rows = table[["quantity", "value", "low", "high"]].itertuples(index=False)
    return {str(quantity): Estimate(*ends) for quantity, *ends in rows}
