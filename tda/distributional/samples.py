"""Samples of a measurement over runs: before removals, predicted without, and retrained without.

Letters: S runs, G removals (groups of examples), M test points, H resamples.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from tda.errors import UserError
from tda.statistics.intervals import half_samples


@dataclass(frozen=True)
class Samples:
    """Samples before and after removals, by prediction and by retraining.

    Attributes:
        before: [S 1 M].
        predicted: [S G M].
        retrained: [S' G M].
        base: of its runs without a removal [S' 1 M], ``before`` if paired; None: not known.
        paired: whether its runs are those of the others.
        names: of removals and test points.
    """

    before: np.ndarray
    predicted: np.ndarray
    retrained: np.ndarray
    base: np.ndarray | None
    paired: bool
    names: tuple[list, list]

    def of_runs(self, own_S: np.ndarray, other_S: np.ndarray) -> "Samples":
        """Some of the runs."""
        return replace(
            self,
            before=self.before[own_S],
            predicted=self.predicted[own_S],
            retrained=self.retrained[other_S],
            base=None if self.base is None else self.base[other_S],
        )

    def halves(self, num_resamples: int) -> Iterator[tuple["Samples", "Samples"]]:
        """Random halves of the runs, and what they leave; the same in all samples if paired."""
        rng = np.random.default_rng(0)
        own_HS = half_samples(num_resamples, len(self.before), rng) > 0
        other_HS = half_samples(num_resamples, len(self.retrained), rng) > 0
        for own_S, other_S in zip(own_HS, own_HS if self.paired else other_HS, strict=True):
            yield self.of_runs(own_S, other_S), self.of_runs(~own_S, ~other_S)

    def equal_halves(self, num_resamples: int) -> Iterator[tuple["Samples", "Samples"]]:
        """The same of equal size: a random run is left out where their number is odd."""
        rng = np.random.default_rng(1)
        for first, second in self.halves(num_resamples):
            own, other = (
                np.sort(rng.permutation(len(sample))[: len(rest)])
                for sample, rest in (
                    (first.before, second.before), (first.retrained, second.retrained)
                )
            )  # fmt: skip
            yield first.of_runs(own, own if self.paired else other), second

    @property
    def num_runs(self) -> int:
        """The smaller number of runs."""
        return min(len(self.before), len(self.retrained))

    def without(self, group: int) -> "Samples":
        """All removals but one."""
        predicted, retrained = (
            np.delete(sample, group, axis=1) for sample in (self.predicted, self.retrained)
        )
        return replace(self, predicted=predicted, retrained=retrained)


def samples_of(
    predicted: xr.DataArray, retrained: xr.DataArray
) -> Iterator[tuple[int | None, Samples]]:
    """Samples of each checkpoint, checked."""
    if "before" not in predicted.coords:
        raise UserError("predicted must come from tda.predict_removal: it lacks the sample before")
    retrained = retrained.rename(member="group") if "member" in retrained.dims else retrained
    before = predicted["before"].reset_coords(drop=True)
    base = retrained["before"].reset_coords(drop=True) if "before" in retrained.coords else None
    named = all("group" in sample.indexes for sample in (predicted, retrained))
    predicted, retrained = _with_group(predicted), _with_group(retrained)
    _check(predicted, retrained)
    if named:
        retrained = _by_name(predicted, retrained)
    seeds = [set(sample["seed"].values.tolist()) for sample in (predicted, retrained)]
    if paired := seeds[0] == seeds[1]:
        retrained, base = retrained.sel(seed=predicted["seed"]), before
    names = (predicted["group"].values.tolist(), predicted["test"].values.tolist())
    places: list = predicted["checkpoint"].values.tolist() if "checkpoint" in before.dims else []
    for checkpoint in places or [None]:
        at = {} if checkpoint is None else {"checkpoint": checkpoint}
        yield checkpoint, Samples(
            _values(before, at),
            predicted.sel(at).transpose("seed", "group", "test").values,
            retrained.sel(at).transpose("seed", "group", "test").values,
            None if base is None else _values(base, at), paired, names,
        )  # fmt: skip


def _values(before: xr.DataArray, at: dict) -> np.ndarray:
    """A sample without a removal [S 1 M]."""
    own = {dim: name for dim, name in at.items() if dim in before.dims}
    return before.sel(own).transpose("seed", "test").values[:, None]


def _with_group(sample: xr.DataArray) -> xr.DataArray:
    sample = sample if "group" in sample.dims else sample.expand_dims(group=[0])
    if "group" not in sample.coords:
        sample = sample.assign_coords(group=np.arange(sample.sizes["group"]))
    return sample.reset_coords(drop=True)


def _by_name(predicted: xr.DataArray, retrained: xr.DataArray) -> xr.DataArray:
    """The retrained removals in the order of the predicted ones, by their names."""
    own, other = (sample["group"].values.tolist() for sample in (predicted, retrained))
    if own == other:
        return retrained
    if set(own) != set(other) or len(set(own)) < len(own):
        raise UserError(
            f"predicted and retrained name other removals, {own[:3]}... and {other[:3]}...: give "
            "the same, each once, or drop one side's names (.drop_vars('group')) to go by order"
        )
    return retrained.sel(group=own)


def _check(predicted: xr.DataArray, retrained: xr.DataArray) -> None:
    if set(predicted.dims) != set(retrained.dims):
        raise UserError(f"predicted has the dims {predicted.dims}, retrained {retrained.dims}")
    for dim in set(predicted.dims) - {"seed", "group"}:
        if predicted[dim].values.tolist() != retrained[dim].values.tolist():
            raise UserError(f"predicted and retrained differ in {dim}")
    if predicted.sizes["group"] != retrained.sizes["group"]:
        raise UserError(
            f"{predicted.sizes['group']} removals are predicted, {retrained.sizes['group']} "
            "retrained: give the same"
        )
    seeds = [set(sample["seed"].values.tolist()) for sample in (predicted, retrained)]
    if seeds[0] != seeds[1] and seeds[0] & seeds[1]:
        raise UserError(
            "predicted and retrained share some seeds and not others: give the same seeds to both, "
            "or retrain with seeds of their own"
        )
    if min(map(len, seeds)) < 4:
        raise UserError(f"to compare distributions takes four runs, not {min(map(len, seeds))}")
