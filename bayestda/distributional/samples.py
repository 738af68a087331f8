"""Samples of a measurement over runs: before removals, predicted without, and retrained without.

Letters: S runs, G removals (groups of examples), M test points, H resamples.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from bayestda.distributional.differences import Difference
from bayestda.errors import UserError
from bayestda.statistics.intervals import half_samples


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


@dataclass(frozen=True)
class Paired:
    """Samples of the same runs before [S ... 1 M] and after [S ... R M] removals.

    Attributes:
        before, after: the samples.
        template: dims (..., row, test) and coordinates of what is made of them.
    """

    before: np.ndarray
    after: np.ndarray
    template: xr.DataArray

    @classmethod
    def of(cls, measured: xr.DataArray, shifts: xr.DataArray) -> "Paired":
        """Checked, runs first.

        Raises:
            UserError: the two do not fit together.
        """
        rows = [dim for dim in ("train", "group") if dim in shifts.dims]
        common = [dim for dim in shifts.dims if dim not in rows]
        if len(rows) != 1 or "seed" not in common or set(common) != set(measured.dims):
            raise UserError(
                f"shifts {shifts.dims} must have the dims of the measured values {measured.dims} "
                "and one of train and group; both need the dim seed: give runs as they are, never "
                "their mean"
            )
        for dim in common:
            if measured[dim].values.tolist() != shifts[dim].values.tolist():
                raise UserError(
                    f"measured values and shifts differ in {dim}: samples are paired run by run, "
                    "so give both of the same posterior and queries"
                )
        between = [dim for dim in common if dim not in ("seed", "test")]
        ordered = shifts.transpose("seed", *between, *rows, "test")
        base = measured.transpose("seed", *between, "test").values[..., None, :]
        if not (np.isfinite(base).all() and np.isfinite(ordered.values).all()):
            raise UserError("measured values or shifts are not finite: did a run diverge?")
        return cls(base, base + ordered.values, ordered.isel(seed=0, drop=True))

    @property
    def dims(self) -> tuple:
        """Of what is made of the samples."""
        return self.template.dims

    @property
    def row(self) -> str:
        """``train`` or ``group``."""
        return str(self.dims[-2])

    def of_test(self, test: int) -> "Paired":
        """One test point alone."""
        one = slice(test, test + 1)
        return Paired(self.before[..., one], self.after[..., one], self.template.isel(test=one))

    def value(self, difference: Difference) -> np.ndarray:
        """The difference [... R M]."""
        return difference(self.before, self.after)

    def halves(self, num_resamples: int) -> Iterator["Paired"]:
        """Random halves of the runs, the same in both samples."""
        weights_HS = half_samples(num_resamples, len(self.after), np.random.default_rng(0))
        for chosen_S in weights_HS > 0:
            yield Paired(self.before[chosen_S], self.after[chosen_S], self.template)

    def exchanges(self, num_resamples: int) -> Iterator["Paired"]:
        """The values before and after of random runs, exchanged."""
        rng = np.random.default_rng(0)
        for _ in range(num_resamples):
            kept_S = rng.random(len(self.after)) < 0.5
            kept = kept_S.reshape(-1, *[1] * (self.after.ndim - 1))
            before = np.where(kept, self.before, self.after)
            after = np.where(kept, self.after, self.before)
            yield Paired(before, after, self.template)

    def moved_to(self, mean: np.ndarray) -> "Paired":
        """Both samples with one mean; what differs by rounding alone is equal."""
        before, after = (s - s.mean(axis=0) + mean for s in (self.before, self.after))
        is_rounding = np.abs(after - before) <= 1e-12 * np.abs(before).max(axis=0)
        before = before + np.zeros(after.shape)  # of one shape, sums of equal values are equal
        return Paired(before, np.where(is_rounding, before, after), self.template)

    def labelled(self, arrays: Mapping[str, np.ndarray]) -> xr.Dataset:
        """Arrays [... R M] with dims and coordinates."""
        variables = {name: (self.dims, array) for name, array in arrays.items()}
        return xr.Dataset(variables, coords=self.template.coords)
