"""Hold samples of a measurement over runs: before removals, predicted, and retrained.

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
    """Hold samples before and after removals, by prediction and by retraining.

    Attributes:
        before: Measurements before removals [S 1 M].
        predicted: Predicted measurements after removals [S G M].
        retrained: Measurements of retrained runs [S' G M].
        base: Measurements of the retrained seeds before removals [S' 1 M], equal to ``before`` if
            paired; None: not known.
        paired: Whether the retrained runs have the seeds of the others.
        names: Names of removals, and of test points.
    """

    before: np.ndarray
    predicted: np.ndarray
    retrained: np.ndarray
    base: np.ndarray | None
    paired: bool
    names: tuple[list, list]

    def of_runs(self, predicted_S: np.ndarray, retrained_S: np.ndarray) -> "Samples":
        """Return some of the runs, by two selections.

        Args:
            predicted_S: Runs to take of ``before`` and ``predicted``, booleans or positions.
            retrained_S: Runs to take of ``retrained`` and ``base``.
        """
        return replace(
            self,
            before=self.before[predicted_S],
            predicted=self.predicted[predicted_S],
            retrained=self.retrained[retrained_S],
            base=None if self.base is None else self.base[retrained_S],
        )

    def halves(self, num_resamples: int) -> Iterator[tuple["Samples", "Samples"]]:
        """Yield random halves of the runs with the other halves, the same for all if paired."""
        rng = np.random.default_rng(0)
        first_HS = half_samples(num_resamples, len(self.before), rng) > 0
        second_HS = half_samples(num_resamples, len(self.retrained), rng) > 0
        if self.paired:
            second_HS = first_HS
        for first_S, second_S in zip(first_HS, second_HS, strict=True):
            yield self.of_runs(first_S, second_S), self.of_runs(~first_S, ~second_S)

    def equal_halves(self, num_resamples: int) -> Iterator[tuple["Samples", "Samples"]]:
        """Yield random halves of equal size; of an odd number a random run is left out."""
        rng = np.random.default_rng(1)
        for first, second in self.halves(num_resamples):
            # The first half is the larger one: as many of it are chosen as the second has.
            predicted_S = np.sort(rng.permutation(len(first.before))[: len(second.before)])
            retrained_S = np.sort(rng.permutation(len(first.retrained))[: len(second.retrained)])
            yield first.of_runs(predicted_S, predicted_S if self.paired else retrained_S), second

    @property
    def num_runs(self) -> int:
        """Return the smaller one of the numbers of predicted and retrained runs."""
        return min(len(self.before), len(self.retrained))

    def without(self, group: int) -> "Samples":
        """Return all removals but one."""
        predicted, retrained = (
            np.delete(sample, group, axis=1) for sample in (self.predicted, self.retrained)
        )
        return replace(self, predicted=predicted, retrained=retrained)


def samples_of(
    predicted: xr.DataArray, retrained: xr.DataArray
) -> Iterator[tuple[int | None, Samples]]:
    """Yield each checkpoint (None without checkpoints) and its samples, after checks.

    Args:
        predicted: Samples from :func:`tda.predict_removal`.
        retrained: Samples from :func:`tda.retrained`, of the same removals.

    Raises:
        UserError: The two do not fit together, or have less than four runs.
    """
    if "before" not in predicted.coords:
        raise UserError("predicted lacks the coordinate 'before': make it with tda.predict_removal")
    retrained = retrained.rename(member="group") if "member" in retrained.dims else retrained
    before = predicted["before"].reset_coords(drop=True)
    base = retrained["before"].reset_coords(drop=True) if "before" in retrained.coords else None
    have_names = all("group" in sample.indexes for sample in (predicted, retrained))
    predicted, retrained = _with_group(predicted), _with_group(retrained)
    _check(predicted, retrained)
    if have_names:
        retrained = _by_name(predicted, retrained)
    seeds = [set(sample["seed"].values.tolist()) for sample in (predicted, retrained)]
    # The same seeds are the same runs: their order is made equal, and the sample before is shared.
    if paired := seeds[0] == seeds[1]:
        retrained, base = retrained.sel(seed=predicted["seed"]), before
    names = (predicted["group"].values.tolist(), predicted["test"].values.tolist())
    has_checkpoints = "checkpoint" in before.dims
    checkpoints: list = predicted["checkpoint"].values.tolist() if has_checkpoints else [None]
    for checkpoint in checkpoints:
        label = {} if checkpoint is None else {"checkpoint": checkpoint}
        yield checkpoint, Samples(
            _values(before, label),
            predicted.sel(label).transpose("seed", "group", "test").values,
            retrained.sel(label).transpose("seed", "group", "test").values,
            None if base is None else _values(base, label), paired, names,
        )  # fmt: skip


def _values(before: xr.DataArray, label: dict) -> np.ndarray:
    """A sample without a removal [S 1 M], of one checkpoint if it has any."""
    selection = {dim: name for dim, name in label.items() if dim in before.dims}
    return before.sel(selection).transpose("seed", "test").values[:, None]


def _with_group(sample: xr.DataArray) -> xr.DataArray:
    sample = sample if "group" in sample.dims else sample.expand_dims(group=[0])
    if "group" not in sample.coords:
        sample = sample.assign_coords(group=np.arange(sample.sizes["group"]))
    return sample.reset_coords(drop=True)


def _by_name(predicted: xr.DataArray, retrained: xr.DataArray) -> xr.DataArray:
    """The retrained removals in the order of the predicted ones, by their names."""
    # Names are compared, because removals are not always listed in the same order.
    names, other_names = (sample["group"].values.tolist() for sample in (predicted, retrained))
    if names == other_names:
        return retrained
    if set(names) != set(other_names) or len(set(names)) < len(names):
        raise UserError(
            f"predicted and retrained name other removals, {names[:3]}... and {other_names[:3]}"
            "...: give the same, each once, or drop one side's names (.drop_vars('group')) to go "
            "by order"
        )
    return retrained.sel(group=names)


def _check(predicted: xr.DataArray, retrained: xr.DataArray) -> None:
    if set(predicted.dims) != set(retrained.dims):
        raise UserError(
            f"predicted has the dims {predicted.dims}, retrained {retrained.dims}: give both the "
            "same dims"
        )
    for dim in set(predicted.dims) - {"seed", "group"}:
        if predicted[dim].values.tolist() != retrained[dim].values.tolist():
            raise UserError(
                f"predicted and retrained differ in {dim}: give both the same, in the same order"
            )
    if predicted.sizes["group"] != retrained.sizes["group"]:
        raise UserError(
            f"{predicted.sizes['group']} removals are predicted and {retrained.sizes['group']} "
            "are retrained: give the same removals"
        )
    seeds = [set(sample["seed"].values.tolist()) for sample in (predicted, retrained)]
    if seeds[0] != seeds[1] and seeds[0] & seeds[1]:
        raise UserError(
            "predicted and retrained share some seeds and not others: give the same seeds to both, "
            "or retrain with entirely different seeds"
        )
    if min(map(len, seeds)) < 4:
        raise UserError(
            f"a comparison of distributions needs four runs or more, not {min(map(len, seeds))}"
        )


@dataclass(frozen=True)
class Paired:
    """Hold samples of the same runs before and after removals.

    Attributes:
        before: Measurements before removals [S ... 1 M].
        after: Measurements after removals [S ... R M].
        template: Array whose dims (..., row, test) and coordinates label the results.
    """

    before: np.ndarray
    after: np.ndarray
    template: xr.DataArray

    @classmethod
    def of(cls, measured: xr.DataArray, shifts: xr.DataArray) -> "Paired":
        """Pair measurements with shifts of the same runs, after checks.

        Args:
            measured: Measurements with dims (seed, ..., test).
            shifts: Shifts with dims (seed, ..., train or group, test).

        Raises:
            UserError: The two do not fit together.
        """
        rows = [dim for dim in ("train", "group") if dim in shifts.dims]
        common = [dim for dim in shifts.dims if dim not in rows]
        if len(rows) != 1 or "seed" not in common or set(common) != set(measured.dims):
            raise UserError(
                f"shifts {shifts.dims} must have the dims of the measured values {measured.dims} "
                "and one of train and group, and both need the dim seed: give every run, not their "
                "mean"
            )
        for dim in common:
            if measured[dim].values.tolist() != shifts[dim].values.tolist():
                raise UserError(
                    f"measured values and shifts differ in {dim}: samples are paired run by run, "
                    "so give both of the same posterior and queries"
                )
        between = [dim for dim in common if dim not in ("seed", "test")]
        ordered = shifts.transpose("seed", *between, *rows, "test")
        base = measured.transpose("seed", *between, "test").values[..., None, :]  # [S ... 1 M]
        if not (np.isfinite(base).all() and np.isfinite(ordered.values).all()):
            raise UserError("measured values or shifts are not finite: did a run diverge?")
        return cls(base, base + ordered.values, ordered.isel(seed=0, drop=True))

    @property
    def dims(self) -> tuple:
        """Return the dims of results."""
        return self.template.dims

    @property
    def row(self) -> str:
        """Return the name of the removals' dim, ``train`` or ``group``."""
        return str(self.dims[-2])

    def of_test(self, test: int) -> "Paired":
        """Return the samples of one test point, by its position."""
        column = slice(test, test + 1)  # a slice keeps the dim
        template = self.template.isel(test=column)
        return Paired(self.before[..., column], self.after[..., column], template)

    def value(self, difference: Difference) -> np.ndarray:
        """Return the difference [... R M] of the two samples."""
        return difference(self.before, self.after)

    def halves(self, num_resamples: int) -> Iterator["Paired"]:
        """Yield random halves of the runs, the same in both samples."""
        weights_HS = half_samples(num_resamples, len(self.after), np.random.default_rng(0))
        for chosen_S in weights_HS > 0:
            yield Paired(self.before[chosen_S], self.after[chosen_S], self.template)

    def exchanges(self, num_resamples: int) -> Iterator["Paired"]:
        """Yield samples in which the values before and after of random runs are exchanged."""
        rng = np.random.default_rng(0)
        for _ in range(num_resamples):
            is_kept_S = rng.random(len(self.after)) < 0.5
            is_kept = is_kept_S.reshape(-1, *[1] * (self.after.ndim - 1))
            before = np.where(is_kept, self.before, self.after)
            after = np.where(is_kept, self.after, self.before)
            yield Paired(before, after, self.template)

    def moved_to(self, mean: np.ndarray) -> "Paired":
        """Return both samples moved to one mean.

        Values that then differ only by rounding are made equal, so that a removal that moves all
        runs by the same amount leaves a difference of exactly 0.
        """
        before, after = (s - s.mean(axis=0) + mean for s in (self.before, self.after))
        is_rounding = np.abs(after - before) <= 1e-12 * np.abs(before).max(axis=0)
        before = before + np.zeros(after.shape)  # of one shape, sums of equal values are equal
        return Paired(before, np.where(is_rounding, before, after), self.template)

    def labelled(self, arrays: Mapping[str, np.ndarray]) -> xr.Dataset:
        """Return arrays [... R M] with dims and coordinates."""
        variables = {name: (self.dims, array) for name, array in arrays.items()}
        return xr.Dataset(variables, coords=self.template.coords)
