"""Samples of a measurement over runs before and after removals, paired run by run.

Letters: S runs, H resamples, R examples or groups, M test.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from tda.distributional.differences import Difference
from tda.errors import UserError
from tda.statistics.intervals import half_samples


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
