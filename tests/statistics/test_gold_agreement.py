"""Agreement with gold scores against scipy and plain loops; signal and noise that were planted."""

import runpy

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from bayestda.experiments import paths
from bayestda.statistics.gold_agreement import (
    best_damping,
    cosine,
    order_agreement,
    rows,
    seed_noise,
    spearman,
    summary,
)

S, T, D, L, M = 3, 2, 4, 6, 5


@pytest.fixture
def gold():
    values = np.random.default_rng(1).normal(size=(S, T, L, M))
    dims = ("train_seed", "step", "left_out", "test")
    return xr.DataArray(values, dims=dims, coords={"step": [5, 10]})


@pytest.fixture
def scores():
    values = np.random.default_rng(2).normal(size=(S, D, L, M))
    dims = ("train_seed", "damping", "left_out", "test")
    return xr.DataArray(values, dims=dims, coords={"damping": [0.1, 1, 10, 100]})


def test_cosine_and_spearman_are_those_of_each_test_point(gold, scores):
    both = cosine(gold, scores), spearman(gold, scores)
    for s, t, d, m in np.ndindex(S, T, D, M):
        a_L, b_L = gold.values[s, t, :, m], scores.values[s, d, :, m]
        at = {"train_seed": s, "step": t, "damping": d, "test": m}
        expected = a_L @ b_L / np.linalg.norm(a_L) / np.linalg.norm(b_L)
        assert float(both[0].isel(at)) == pytest.approx(expected)
        assert float(both[1].isel(at)) == pytest.approx(stats.spearmanr(a_L, b_L).statistic)


def test_nothing_agrees_with_zero(gold):
    assert np.isnan(cosine(gold * 0, gold)).all()


def test_the_best_damping_is_chosen_for_each_step(gold, scores):
    agreement = cosine(gold, scores)
    best = best_damping(agreement)
    for step in (5, 10):
        means = agreement.sel(step=step).mean(("train_seed", "test"))
        assert float(best.sel(step=step).mean()) == pytest.approx(float(means.max()))
        assert float(best.sel(step=step)["damping"]) == float(means.idxmax("damping"))


def test_a_damping_that_a_final_model_has_no_score_for_is_not_chosen(gold, scores):
    undefined = scores.copy()
    best = best_damping(cosine(gold, scores))["damping"].values
    undefined.loc[{"damping": best[0], "train_seed": undefined["train_seed"][0]}] = np.nan
    again = best_damping(cosine(gold, undefined))
    assert again.notnull().all() and again["damping"].values[0] != best[0]
    assert best_damping(cosine(gold, undefined * np.nan)).isnull().all()


def test_rows_name_every_step_and_damping(gold, scores):
    agreement = cosine(gold, scores)
    found = list(rows(agreement, method="m"))
    assert len(found) == T * D
    row = next(row for row in found if (row["step"], row["damping"]) == (10, 1))
    one = agreement.sel(step=10, damping=1)
    assert row["value"] == pytest.approx(float(one.mean()))
    expected = one.mean("train_seed").values.std(ddof=1) / M**0.5
    assert row["se_test"] == pytest.approx(expected)
    assert row["low"] < row["value"] < row["high"]
    assert (row["method"], row["num_models"]) == ("m", S)


def test_two_final_models_have_no_interval(gold, scores):
    one = cosine(gold, scores).isel(step=0, damping=0, train_seed=slice(2))
    assert np.isnan(summary(one)["low"])
    assert np.isfinite(summary(one)["se_test"])


def test_planted_signal_and_noise_are_found():
    rng = np.random.default_rng(3)
    signal, noise = 2.0, 3.0
    values = signal * rng.normal(size=(200, 50)) + noise * rng.normal(size=(8, 200, 50))
    found = seed_noise(xr.DataArray(values, dims=("seed", "left_out", "test")))
    assert float(found["signal"]) == pytest.approx(signal, rel=0.03)
    assert float(found["noise"]) == pytest.approx(noise, rel=0.02)
    assert float(found["seeds_needed"]) == pytest.approx(9 * noise**2 / signal**2, abs=2)


def test_without_signal_no_number_of_seeds_is_enough():
    values = np.stack([np.ones((4, 3)), -np.ones((4, 3))])
    found = seed_noise(xr.DataArray(values, dims=("seed", "left_out", "test")))
    assert (float(found["signal"]), float(found["seeds_needed"])) == (0, np.inf)


def test_orders_agree_by_the_cosine_of_each_pair(gold):
    scores = gold.rename(train_seed="seed")
    expected = np.zeros(T)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        both = cosine(scores.isel(seed=first), scores.isel(seed=second))
        expected += both.mean("test").values / 3
    np.testing.assert_allclose(order_agreement(scores), expected)


def test_orders_of_scores_that_are_zero_have_no_agreement(gold):
    scores = gold.rename(train_seed="seed")
    silent = scores.copy()
    silent[{"seed": 0, "test": 2}] = 0
    expected = order_agreement(scores.drop_isel(test=2))
    np.testing.assert_allclose(order_agreement(silent), expected)
    assert order_agreement(silent * 0).isnull().all()


def test_averaged_orders_leave_out_what_is_not_defined(gold, scores):
    """As a table of one order does: see cosines.best_damping and cosines.summary."""
    maximum = runpy.run_path(str(paths.REPOSITORY / "analysis" / "fimo_seeds.py"))["maximum"]
    agreement = cosine(gold, scores).isel(step=0, drop=True)
    plain = maximum(agreement.expand_dims("group"))
    expected = summary(best_damping(agreement))
    assert {"value": plain["value"], "low": plain["low"], "high": plain["high"]} == pytest.approx(
        {name: expected[name] for name in ("value", "low", "high")}
    )
    broken = agreement.copy()
    broken.loc[{"damping": plain["damping"]}][{"train_seed": 0}] = np.nan
    chosen = maximum(broken.expand_dims("group"))
    assert chosen["damping"] != plain["damping"]
    broken = agreement.copy()
    broken[{"train_seed": 0, "test": 1}] = np.nan
    found = maximum(broken.expand_dims("group"))
    without = maximum(agreement.drop_isel(test=1).expand_dims("group"))
    assert found == pytest.approx(without) and np.isfinite(found["low"])
    nothing = maximum((agreement * np.nan).isel(train_seed=slice(2)).expand_dims("group"))
    assert np.isnan(nothing["value"]) and np.isnan(nothing["low"])


def test_test_points_without_a_cosine_are_left_out_and_counted(gold, scores):
    silent = gold.copy()
    silent[0, :, :, 2] = 0
    agreement = cosine(silent, scores).sel(step=5, damping=1)
    found, others = summary(agreement), agreement.drop_isel(test=2)
    assert found == pytest.approx(summary(others)) and found["num_tests"] == M - 1
    nothing = summary(agreement * np.nan)
    assert np.isnan(nothing["value"]) and nothing["num_tests"] == 0
