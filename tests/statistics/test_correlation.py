"""Correlations between methods are scipy's, and their intervals cover."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

from bayestda import statistics
from bayestda.statistics.correlation import ranks, statistic_maps
from bayestda.statistics.intervals import bootstrap_interval, half_samples


def scores(values) -> xr.DataArray:
    return xr.DataArray(
        values, dims=("seed", "train", "test"), coords={"seed": np.arange(len(values))}
    )


def pick(table: pd.DataFrame, **wanted) -> pd.Series:
    for column, value in wanted.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_all_pairs_correlations_are_scipys_and_ties_share_their_rank():
    maps = np.random.default_rng(0).integers(0, 4, (2, 6, 7)).astype(float)
    for kind, oracle in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        expected = oracle(maps[0].ravel(), maps[1].ravel()).statistic
        matrix = statistics.correlation_matrix(maps, kind, "all_pairs")
        np.testing.assert_allclose(matrix, [[1, expected], [expected, 1]], rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "oracle"), [("pearson", stats.pearsonr), ("spearman", stats.spearmanr)]
)
def test_per_test_correlation_is_the_average_over_columns(kind, oracle):
    maps = np.random.default_rng(1).normal(size=(3, 6, 7))
    matrix = statistics.correlation_matrix(maps, kind, "per_test")
    for a, b in ((0, 1), (1, 2)):
        columns = [oracle(maps[a][:, m], maps[b][:, m]).statistic for m in range(7)]
        assert matrix[a, b] == pytest.approx(np.mean(columns), rel=1e-10)


def test_constant_columns_are_left_out_and_a_constant_map_has_no_correlation():
    maps = np.random.default_rng(2).normal(size=(2, 6, 7))
    maps[0, :, 3] = 0.1
    kept = np.delete(maps, 3, axis=2)
    np.testing.assert_allclose(
        statistics.correlation_matrix(maps, "pearson", "per_test"),
        [
            [1, statistics.correlation_matrix(kept, "pearson", "per_test")[0, 1]],
            [statistics.correlation_matrix(kept, "pearson", "per_test")[0, 1], 1],
        ],
    )
    maps[0] = 0.1
    assert np.isnan(statistics.correlation_matrix(maps, "pearson", "all_pairs")[0, 1])


def test_values_that_are_not_finite_are_left_out():
    maps = np.random.default_rng(3).normal(size=(2, 6, 7))
    maps[1, 2, 3] = np.inf
    finite = np.isfinite(maps[1])
    expected = stats.pearsonr(maps[0][finite], maps[1][finite]).statistic
    result = statistics.correlation_matrix(maps, "pearson", "all_pairs")[0, 1]
    assert result == pytest.approx(expected)
    without = statistics.correlation_matrix(np.delete(maps, 3, 2), "pearson", "per_test")
    np.testing.assert_allclose(
        statistics.correlation_matrix(maps, "pearson", "per_test"), without, rtol=1e-12
    )


@pytest.mark.parametrize("kind", ["pearson", "spearman"])
@pytest.mark.parametrize("scope", ["all_pairs", "per_test"])
def test_values_that_are_not_finite_count_against_their_own_method_alone(kind, scope):
    maps = np.random.default_rng(5).normal(size=(3, 6, 7))
    maps[2, 1] = np.inf
    matrix = statistics.correlation_matrix(maps, kind, scope)
    both = statistics.correlation_matrix(maps[:2], kind, scope)
    np.testing.assert_allclose(matrix[:2, :2], both)
    third = statistics.correlation_matrix(maps[1:], kind, scope)
    np.testing.assert_allclose(matrix[1, 2], third[0, 1])
    assert np.isfinite(matrix[0, 2]) == (scope == "all_pairs")


def test_ranks_are_scipys_with_and_without_ties():
    rng = np.random.default_rng(4)
    for values in (rng.normal(size=(3, 20)), rng.integers(0, 5, (3, 20)).astype(float)):
        np.testing.assert_array_equal(ranks(values), stats.rankdata(values, axis=-1) - 1)


def test_equal_weights_give_the_statistics_of_students_test():
    runs_TSNM = np.random.default_rng(5).normal(0.3, 1, (2, 6, 3, 4))
    runs_TSNM[0, :, 0, 0] = 0.1
    mean, std, p, ratio = statistic_maps(runs_TSNM, np.full(6, 1 / 6))
    for method in (0, 1):
        tested = statistics.student_t(scores(runs_TSNM[method]))
        expected = statistics.signal_to_noise(scores(runs_TSNM[method]))
        np.testing.assert_allclose(mean[method], tested["mean"], rtol=1e-10)
        np.testing.assert_allclose(std[method], tested["std"], rtol=1e-10)
        np.testing.assert_allclose(p[method], tested["p"], rtol=1e-10)
        np.testing.assert_allclose(ratio[method], expected, rtol=1e-10)


def correlated(rng, num_seeds=8, train=6, test=20):
    signal_a = rng.normal(size=(train, test))
    signal_b = 0.8 * signal_a + 0.6 * rng.normal(size=(train, test))
    return {
        "a": scores(signal_a + rng.normal(size=(num_seeds, train, test))),
        "b": scores(-signal_b + rng.normal(size=(num_seeds, train, test))),
    }


def test_table_holds_every_statistic_once_with_an_interval_around_the_value():
    data = correlated(np.random.default_rng(6))
    table = statistics.correlations(data, num_resamples=20)
    assert len(table) == 4 * 2 * 2
    assert (table["low"] < table["value"]).all() and (table["value"] < table["high"]).all()
    assert (table["low"] > -1).all() and (table["high"] < 1).all()
    assert set(table["n_seeds"]) == {8} and set(table["n_pairs"]) == {120}
    row = pick(table, statistic="mean", kind="pearson", scope="all_pairs")
    means = [data[m].mean("seed").values.ravel() for m in "ab"]
    assert row["value"] == pytest.approx(np.corrcoef(means)[0, 1])
    assert row["value"] < -0.5


def test_p_values_correlate_by_rank_as_the_size_of_the_signal_to_noise_ratio():
    data = correlated(np.random.default_rng(7))
    row = pick(
        statistics.correlations(data, num_resamples=4),
        statistic="p",
        kind="spearman",
        scope="all_pairs",
    )
    ratios = [np.abs(statistics.signal_to_noise(data[m]).values.ravel()) for m in "ab"]
    assert row["value"] == pytest.approx(stats.spearmanr(*ratios).statistic)


def test_the_table_is_the_same_every_time():
    data = correlated(np.random.default_rng(8))
    first, second = (statistics.correlations(data, num_resamples=10) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_methods_are_compared_on_the_seeds_that_both_have():
    data = correlated(np.random.default_rng(9))
    data["c"] = data["a"].isel(seed=[5, 1, 3]) * 2
    data["d"] = data["a"].isel(seed=[0])
    table = statistics.correlations(data, num_resamples=4)
    rows = table[(table["statistic"] == "mean") & (table["kind"] == "pearson")]
    rows = rows[rows["scope"] == "all_pairs"].set_index(["method_a", "method_b"])
    assert rows["n_seeds"].to_dict() == {("a", "b"): 8, ("a", "c"): 3, ("b", "c"): 3}
    assert rows.loc[("a", "c"), "value"] == pytest.approx(1)


def test_two_seeds_have_correlations_but_no_interval():
    table = statistics.correlations(correlated(np.random.default_rng(10), num_seeds=2))
    assert table["value"].notna().all()
    assert table[["low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize("noise", ["shared by many pairs", "of each pair its own"])
def test_intervals_cover_the_expected_correlation_and_are_not_needlessly_wide(noise):
    rng = np.random.default_rng(11)
    shape, num_seeds, num_factors = (10, 20), 8, 6
    signals = rng.normal(size=(2, *shape)) + rng.normal(size=shape)
    loading = rng.normal(size=(num_factors, *shape)) / np.sqrt(num_factors)

    def draw():
        parts = rng.normal(size=(3, num_seeds, *shape))
        if noise == "shared by many pairs":
            parts = np.tensordot(rng.normal(size=(3, num_seeds, num_factors)), loading, 1)
        return {"a": scores(signals[0] + parts[0] + parts[1]), "b": scores(signals[1] + sum(parts))}

    tables = [statistics.correlations(draw(), num_resamples=40) for _ in range(50)]
    for statistic in ("mean", "std"):
        wanted = {"statistic": statistic, "kind": "pearson", "scope": "all_pairs"}
        rows = pd.DataFrame([pick(table, **wanted) for table in tables])
        truth = rows["value"].mean()
        assert ((rows["low"] <= truth) & (truth <= rows["high"])).mean() > 0.85
        ideal = 2 * stats.t.ppf(0.975, num_seeds - 1) * rows["value"].std()
        assert 0.7 < (rows["high"] - rows["low"]).mean() / ideal < 1.6


def test_half_samples_hold_half_of_the_seeds_once():
    for num_seeds, chosen in ((3, 2), (10, 5)):
        weights = half_samples(20, num_seeds, np.random.default_rng(0))
        assert ((weights > 0).sum(1) == chosen).all()
        np.testing.assert_allclose(weights[weights > 0], 1 / chosen)


@pytest.mark.parametrize("num_seeds", [5, 10])
def test_the_bootstrap_interval_of_a_mean_is_students(num_seeds):
    values = np.random.default_rng(12).normal(size=num_seeds)
    weights = half_samples(20_000, num_seeds, np.random.default_rng(13))
    interval = bootstrap_interval(values.mean(), weights @ values, num_seeds)
    expected = statistics.t_interval(xr.DataArray(values, dims="seed"))
    assert interval.low == pytest.approx(float(expected["low"]), abs=0.02)
    assert interval.high == pytest.approx(float(expected["high"]), abs=0.02)
