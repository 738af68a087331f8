"""Tests that a removal changes the spread and not the mean, on data whose answer is known."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import bayestda as tda
from bayestda.distributional.confirmation import change_of, equivalence_p, flipped_p
from bayestda.errors import UserError

S = 500


def sample(*after):
    """Runs of one test point, and their shifts by removals that make them those."""
    rng = np.random.default_rng(0)
    x_S = rng.standard_normal(S)
    shifts_SR = np.stack([change(x_S, rng) - x_S for change in after], axis=1)
    seeds = {"seed": np.arange(S), "test": [5]}
    measured = xr.DataArray(x_S[:, None], dims=("seed", "test"), coords=seeds)
    coords = seeds | {"train": np.arange(len(after))}
    return measured, xr.DataArray(
        shifts_SR[..., None], dims=("seed", "train", "test"), coords=coords
    )


def asked(count, difference="variance", direction=1.0):
    named = {"test": 5, "difference": difference, "direction": direction}
    return pd.DataFrame({"train": np.arange(count), **named})


def as_wide(x_S, rng):
    return np.sqrt(1 - 0.3**2) * x_S + 0.3 * rng.standard_normal(S)


def wider(x_S, rng):
    return 1.2 * (x_S - x_S.mean()) + x_S.mean() + 0.1 * rng.standard_normal(S)


def moved(x_S, rng):
    return wider(x_S, rng) + 0.3


def test_only_what_changes_the_spread_and_not_the_mean_is_confirmed():
    measured, shifts = sample(as_wide, wider, moved)
    table = tda.confirm_removals(measured, shifts, asked(3))
    assert (table["p_holm"] < 0.05).tolist() == [False, True, False]
    assert (table["p_spread"] < 0.01).tolist()[1:] == [True, True]
    assert (table["p_mean"] < 0.01).tolist() == [True, True, False]
    x_S = measured.values[:, 0]
    y_SR = x_S[:, None] + shifts.values[..., 0]
    np.testing.assert_allclose(table["value"], y_SR.var(0) - x_S.var(), rtol=1e-12)
    np.testing.assert_allclose(table["mean"], (y_SR.mean(0) - x_S.mean()) / x_S.std(ddof=1))
    other = tda.confirm_removals(measured, shifts, asked(3, direction=-1.0))
    assert other["p_spread"][1:].min() > 0.99


def test_no_pairs_give_an_empty_table():
    measured, shifts = sample(wider)
    whole, table = (tda.confirm_removals(measured, shifts, asked(count)) for count in (1, 0))
    assert len(table) == 0
    assert table.columns.tolist() == whole.columns.tolist()
    assert (table.dtypes == whole.dtypes)[["value", "p_spread", "mean", "p_mean", "p_holm"]].all()


def test_a_lower_tail_is_below_the_threshold_of_its_test_point():
    measured, shifts = sample(wider)
    table = tda.confirm_removals(measured, shifts, asked(1, "tail"), thresholds={5: -1.3})
    x_S, y_S = measured.values[:, 0], (measured + shifts).values.squeeze()
    assert np.isclose(table["value"][0], (y_S < -1.3).mean() - (x_S < -1.3).mean())
    assert table["p_spread"][0] < 0.01
    for wrong in ({"difference": "tail"}, {"difference": "wasserstein", "thresholds": {5: 0.0}}):
        pairs = asked(1, wrong.pop("difference"))
        with pytest.raises(UserError, match="cannot be confirmed"):
            tda.confirm_removals(measured, shifts, pairs, **wrong)


def test_random_flips_give_the_p_of_all_flips():
    change_S = np.random.default_rng(1).normal(0.4, 1, 10)
    every_FS = np.array(list(product([-1.0, 1.0], repeat=10)))
    exact = (every_FS @ change_S >= change_S.sum() - 1e-9).mean()
    flips_FS = np.random.default_rng(2).choice([-1.0, 1.0], (20_000, 10))
    assert abs(flipped_p(change_S, flips_FS) - exact) < 4 * np.sqrt(exact / 20_000)


def test_the_equivalence_p_is_that_of_two_one_sided_t_tests():
    for mean in (-0.05, 0.02, 0.2):
        change_S = np.random.default_rng(3).normal(mean, 0.5, 60)
        above = stats.ttest_1samp(change_S, -0.1, alternative="greater").pvalue
        below = stats.ttest_1samp(change_S, 0.1, alternative="less").pvalue
        assert np.isclose(equivalence_p(change_S, 0.1), max(above, below))


def test_the_test_of_the_variance_keeps_its_level_with_heavy_tails_and_moved_means():
    rng, flips_FS = np.random.default_rng(4), np.random.default_rng(5).choice([-1, 1], (400, 100))
    rejected = []
    for _ in range(400):
        common, own, other = rng.standard_t(5, (3, 100))
        x_S, y_S = common + 0.5 * own, common + 0.5 * other + 1
        rejected.append(flipped_p(change_of("variance", None)(x_S, y_S), flips_FS) < 0.05)
    assert 0.02 < np.mean(rejected) < 0.08
