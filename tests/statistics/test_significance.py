"""Tests over seeds are scipy's, also where variances are zero."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from bayestda import statistics
from bayestda.statistics import significance


def runs(values) -> xr.DataArray:
    """Scores of one value per run and training point, one test point."""
    values = np.asarray(values, dtype=np.float64)
    return xr.DataArray(
        values.reshape(len(values), -1, 1),
        dims=("seed", "train", "test"),
        coords={"seed": np.arange(len(values))},
    )


def random_scores(seeds=6, checkpoints=3, train=4, test=5, rng_seed=0) -> xr.DataArray:
    rng = np.random.default_rng(rng_seed)
    shape = (seeds, checkpoints, train, test)
    return xr.DataArray(
        rng.normal(0.3, 1, shape).astype(np.float32),
        dims=("seed", "checkpoint", "train", "test"),
        coords={"seed": np.arange(seeds), "train": np.arange(train) * 7},
    )


def test_student_t_is_scipys_test_of_the_checkpoint_means():
    scores = random_scores()
    result = statistics.student_t(scores)
    expected = stats.ttest_1samp(scores.values.astype(np.float64).mean(1), 0, axis=0)
    np.testing.assert_allclose(result["t"], expected.statistic, rtol=1e-10)
    np.testing.assert_allclose(result["p"], expected.pvalue, rtol=1e-10)
    assert result["p"].dims == ("train", "test")
    assert result["train"].values.tolist() == [0, 7, 14, 21]


def test_runs_that_agree_exactly_have_p_zero_unless_they_agree_on_zero():
    result = statistics.student_t(runs([[0.1, 0.0, -0.1]] * 10))
    assert result["p"].values.ravel().tolist() == [0.0, 1.0, 0.0]
    assert result["std"].values.ravel().tolist() == [0.0, 0.0, 0.0]
    assert result["t"].values.ravel().tolist() == [np.inf, 0.0, -np.inf]


def test_a_score_that_is_no_number_gives_no_p_value_and_leaves_the_others_alone():
    scores = random_scores()
    clean = statistics.student_t(scores)["p"]
    scores[1, 2, 0, 0] = np.nan
    p = statistics.student_t(scores)["p"]
    assert np.isnan(p[0, 0]) and np.isnan(statistics.sign_agreement(scores)[0, 0])
    np.testing.assert_array_equal(p[1:], clean[1:])
    q = statistics.benjamini_hochberg(p)
    assert np.isnan(q[0, 0]) and int(np.isnan(q).sum()) == 1


def test_one_seed_cannot_be_tested():
    with pytest.raises(ValueError, match="at least two"):
        statistics.student_t(random_scores(seeds=1))
    with pytest.raises(ValueError, match="at least two"):
        statistics.signal_to_noise(random_scores(seeds=1))


def test_benjamini_hochberg_is_the_step_up_procedure():
    p = np.random.default_rng(1).beta(0.4, 1, (4, 5))
    q = statistics.benjamini_hochberg(xr.DataArray(p, dims=("train", "test")))
    for level in (0.05, 0.2, 0.5):
        ordered = np.sort(p.ravel())
        passing = np.flatnonzero(ordered <= level * np.arange(1, p.size + 1) / p.size)
        threshold = ordered[passing[-1]] if len(passing) else -1
        np.testing.assert_array_equal(q.values <= level, p <= threshold)


def test_p_is_uniform_and_published_p_is_not_when_there_is_no_effect():
    noise = runs(np.random.default_rng(2).normal(size=(10, 20_000)))
    assert abs(float(statistics.student_t(noise)["p"].mean()) - 0.5) < 0.01
    published = float(statistics.published_p(noise).mean())
    assert abs(published - statistics.expected_published_p(10)) < 0.005
    assert abs(statistics.expected_published_p(10) - 0.7895) < 0.0005


@pytest.mark.parametrize("num_seeds", [2, 3, 10])
def test_expected_values_without_effect_are_those_of_a_simulation(num_seeds):
    noise = runs(np.random.default_rng(3).normal(size=(num_seeds, 40_000)))
    published = float(statistics.published_p(noise).mean())
    assert abs(published - statistics.expected_published_p(num_seeds)) < 0.005
    agreement = float(statistics.sign_agreement(noise).mean())
    assert abs(agreement - statistics.expected_sign_agreement(num_seeds)) < 0.005


def test_published_p_is_the_formula_of_the_released_code():
    scores = random_scores()
    means = scores.values.astype(np.float64).mean(1)
    expected = 2 * stats.norm.sf(np.abs(means.mean(0) / means.std(0, ddof=1)))
    np.testing.assert_allclose(statistics.published_p(scores), expected, rtol=1e-10)


def test_sign_agreement_counts_the_majority_and_zero_agrees_with_none():
    table = [[1, 1, 0, 0], [2, -1, 0, -1], [3, -1, 0, 0], [4, -1, 0, 0]]
    assert statistics.sign_agreement(runs(table)).values.ravel().tolist() == [1, 0.75, 0, 0.25]


def smallest_number_with_power(effect: float) -> int:
    num_seeds = 2
    while True:
        critical = stats.t.isf(0.025, num_seeds - 1)
        if stats.nct.sf(critical, num_seeds - 1, effect * np.sqrt(num_seeds)) >= 0.8:
            return num_seeds
        num_seeds += 1


@pytest.mark.parametrize("effect", [20.0, 3.0, 1.3, -0.8, 0.5, 0.21])
def test_seeds_needed_is_the_smallest_number_that_has_the_power(effect):
    needed = statistics.seeds_needed(xr.DataArray(np.array([effect])))
    assert needed.values[0] == smallest_number_with_power(abs(effect))


def test_seeds_needed_beyond_the_table_is_within_one():
    for effect in (0.19, 0.12):
        needed = statistics.seeds_needed(xr.DataArray(np.array([effect]))).values[0]
        assert abs(needed - smallest_number_with_power(effect)) <= 1


def test_seeds_needed_is_two_for_huge_effects_and_infinite_for_none():
    needed = statistics.seeds_needed(xr.DataArray(np.array([0.0, np.inf, -np.inf, 1e-300])))
    assert needed.values.tolist() == [np.inf, 2, 2, np.inf]
    assert np.isnan(statistics.seeds_needed(xr.DataArray(np.array([np.nan]))).values[0])


def test_the_table_of_seeds_needed_ends_where_the_formula_takes_over():
    around = significance._smallest_effects(0.05, 0.8)[-1] * np.array([1 + 1e-9, 1 - 1e-9])
    needed = statistics.seeds_needed(xr.DataArray(around)).values
    assert needed.tolist() == [200, 201]


def test_the_interval_of_the_mean_p_widens_with_noise_shared_by_pairs():
    rng = np.random.default_rng(4)
    own = rng.normal(size=(8, 200))
    shared = np.repeat(rng.normal(size=(8, 1)), 200, axis=1) + 0.01 * own
    widths = []
    for values in (own, shared):
        interval = statistics.mean_p_interval(runs(values))
        assert interval.low < float(statistics.student_t(runs(values))["p"].mean()) < interval.high
        widths.append(interval.high - interval.low)
    assert widths[1] > 3 * widths[0]
    assert np.isnan(statistics.mean_p_interval(runs(own[:2])).low)
