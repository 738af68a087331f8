"""Scores against the truth: values, intervals, ceilings and tests by plain loops."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats
from sklearn.metrics import roc_auc_score

from bayestda import statistics
from bayestda.statistics.ground_truth import retraining
from bayestda.statistics.jackknife import holm, left_out, merged, value_interval, zero_p

ORACLES = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}


def array(values, row="train", seeds=None) -> xr.DataArray:
    seeds = np.arange(len(values)) if seeds is None else seeds
    return xr.DataArray(values, dims=("seed", row, "test"), coords={"seed": seeds})


def pick(table: pd.DataFrame, **wanted) -> pd.Series:
    for column, value in wanted.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def correlation(a, b, kind, scope) -> float:
    """By scipy, of two maps [rows, tests]."""
    if scope == "all_pairs":
        return ORACLES[kind](np.ravel(a), np.ravel(b)).statistic
    return np.mean([ORACLES[kind](x, y).statistic for x, y in zip(a.T, b.T, strict=True)])


def noisy(rng, shape=(8, 12), num_seeds=6, noise=1.0, own=0.0):
    """Scores and a truth whose signals correlate by .8 and, of a model, their noise by ``own``."""
    signal = rng.normal(size=shape)
    first = noise * rng.normal(size=(num_seeds, *shape))
    second = own * first + noise * np.sqrt(1 - own**2) * rng.normal(size=(num_seeds, *shape))
    other = 0.8 * signal + 0.6 * rng.normal(size=shape)
    return array(other + first), array(signal + second)


def student(value, replicates, there=np.arctanh, back=np.tanh):
    """Jackknife interval of one factor on a scale."""
    z, n = there(np.array(replicates)), len(replicates)
    half = stats.t.ppf(0.975, n - 1) * np.sqrt((n - 1) / n * np.sum((z - z.mean()) ** 2))
    return back(there(value) - half), back(there(value) + half)


@pytest.mark.parametrize("row", ["train", "group"])
@pytest.mark.parametrize("kind", ["pearson", "spearman"])
@pytest.mark.parametrize("scope", ["all_pairs", "per_test"])
def test_correlations_and_both_intervals_are_the_plain_loops(row, kind, scope):
    scores, loo = (a.rename(train=row) for a in noisy(np.random.default_rng(0)))
    found = pick(statistics.evaluate(scores, loo), metric=kind, scope=scope)
    x, y = scores.values, loo.values
    value = correlation(x.mean(0), y.mean(0), kind, scope)
    assert found["value"] == pytest.approx(value)
    assert statistics.loo_correlation(scores, loo, kind, scope) == pytest.approx(value)
    by_seed = [
        correlation(np.delete(x, s, 0).mean(0), np.delete(y, s, 0).mean(0), kind, scope)
        for s in range(6)
    ]
    assert (found["low_seed"], found["high_seed"]) == pytest.approx(student(value, by_seed))
    by_query = [
        correlation(np.delete(x.mean(0), m, 1), np.delete(y.mean(0), m, 1), kind, scope)
        for m in range(12)
    ]
    assert (found["low_query"], found["high_query"]) == pytest.approx(student(value, by_query))
    assert found[["n_seeds", "n_truth_seeds", "n_queries"]].tolist() == [6, 6, 12]


def test_checkpoints_are_averaged_and_rows_and_tests_are_matched_by_name():
    rng = np.random.default_rng(1)
    scores, loo = noisy(rng)
    expected = statistics.evaluate(scores, loo)
    names = {"train": np.arange(8) * 5, "test": np.arange(12) + 3}
    swing = rng.normal(size=scores.shape)
    checkpoints = xr.concat([scores + swing, scores - swing], "checkpoint").assign_coords(names)
    shuffled = loo.assign_coords(names).isel(train=rng.permutation(8)).transpose("test", ...)
    found = statistics.evaluate({"scores": checkpoints}, shuffled)
    columns = ["value", "low_seed", "high_seed", "ceiling", "cross_half_corrected"]
    pd.testing.assert_frame_equal(found[columns], expected[columns])


@pytest.mark.parametrize("kind", ["pearson", "spearman"])
@pytest.mark.parametrize("scope", ["all_pairs", "per_test"])
def test_cross_halves_and_ceiling_are_the_loop_over_all_splits(kind, scope):
    scores, loo = noisy(np.random.default_rng(2), own=0.5)
    found = pick(statistics.evaluate(scores, loo), metric=kind, scope=scope)
    cross, own, truth = [], [], []
    for first in combinations(range(6), 3):
        (x, u), (y, v) = (
            [a.values[list(half)].mean(0) for a in (scores, loo)]
            for half in (first, [s for s in range(6) if s not in first])
        )
        cross.append(correlation(x, v, kind, scope))
        own.append(correlation(x, y, kind, scope))
        truth.append(correlation(u, v, kind, scope))
    assert found["cross_half"] == pytest.approx(np.mean(cross))
    corrected = np.mean(cross) / np.sqrt(np.mean(own) * np.mean(truth))
    assert found["cross_half_corrected"] == pytest.approx(corrected)
    whole = 2 * np.mean(truth) / (1 + np.mean(truth))
    assert found["ceiling"] == pytest.approx(np.sqrt(whole))


def test_pearson_over_all_pairs_is_that_of_agreement_and_reliability():
    scores, loo = noisy(np.random.default_rng(3), num_seeds=5)
    found = pick(statistics.evaluate(scores, loo), metric="pearson", scope="all_pairs")
    both = statistics.agreement(scores, loo).set_index("quantity")
    assert found["value"] == pytest.approx(both.loc["correlation", "value"])
    assert found["low_seed"] == pytest.approx(both.loc["correlation", "low"])
    assert found["cross_half"] == pytest.approx(both.loc["cross_half", "value"])
    corrected = both.loc["cross_half_corrected", "value"]
    assert found["cross_half_corrected"] == pytest.approx(corrected)
    ceiling = statistics.reliability(loo).set_index("quantity").loc["ceiling", "value"]
    assert found["ceiling"] == pytest.approx(ceiling)


def test_the_noise_free_signal_reaches_the_ceiling():
    rng = np.random.default_rng(4)
    signal = rng.normal(size=(40, 50))
    loo = array(signal + 2 * rng.normal(size=(10, 40, 50)))
    scores = array(np.repeat(signal[None], 3, axis=0), seeds=[100, 101, 102])
    table = statistics.evaluate(scores, loo)
    np.testing.assert_allclose(table["value"], table["ceiling"], atol=0.03)
    assert table[["cross_half", "cross_half_corrected"]].isna().all(axis=None)


def test_sharing_models_inflates_the_value_but_not_the_cross_half():
    scores, loo = noisy(np.random.default_rng(5), (60, 80), num_seeds=10, noise=3.0, own=1.0)
    found = pick(statistics.evaluate(scores, loo), metric="pearson", scope="all_pairs")
    assert found["value"] / found["ceiling"] > 0.95
    assert found["cross_half_corrected"] == pytest.approx(0.8, abs=0.04)


def test_other_seeds_are_factors_of_their_own_and_common_ones_are_left_out_of_both():
    scores, loo = noisy(np.random.default_rng(6))
    x, y = scores.values[:4], loo.values

    def value_without(a, b):
        return correlation(
            np.delete(x, a, 0).mean(0), np.delete(y, b, 0).mean(0), "pearson", "all_pairs"
        )

    value = value_without([], [])
    apart = array(x, seeds=[10, 11, 12, 13])
    factors = [
        np.arctanh([value_without(s, []) for s in range(4)]),
        np.arctanh([value_without([], s) for s in range(6)]),
    ]
    expected = statistics.jackknife_interval(np.arctanh(value), factors)
    found = pick(statistics.evaluate(apart, loo), metric="pearson", scope="all_pairs")
    ends = (found["low_seed"], found["high_seed"])
    assert ends == pytest.approx(tuple(np.tanh(expected)))
    common = [value_without(s if s < 4 else [], s) for s in range(6)]
    found = pick(
        statistics.evaluate(array(x, seeds=[0, 1, 2, 3]), loo), metric="pearson", scope="all_pairs"
    )
    assert (found["low_seed"], found["high_seed"]) == pytest.approx(student(value, common))


def subset_truth(rng, scores_NM, num_subsets=15, num_seeds=4, noise=0.5):
    included_AN = rng.random((num_subsets, len(scores_NM))) < 0.5
    shape = (num_seeds, num_subsets, scores_NM.shape[1])
    loss = -(included_AN @ scores_NM) + noise * rng.normal(size=shape)
    loss = array(loss, "subset", seeds=np.arange(num_seeds))
    return loss, xr.DataArray(included_AN, dims=("subset", "train"))


def test_lds_is_the_plain_loop_and_positive_for_scores_that_lower_the_loss():
    rng = np.random.default_rng(7)
    scores, _ = noisy(rng, num_seeds=4)
    loss, included = subset_truth(rng, scores.values.mean(0) + 0.3 * rng.normal(size=(8, 12)))
    columns = []
    for m in range(12):
        predicted = [
            sum(scores.values[:, n, m].mean() for n in range(8) if subset[n])
            for subset in included.values
        ]
        columns.append(stats.spearmanr(predicted, -loss.values[:, :, m].mean(0)).statistic)
    found = statistics.linear_datamodelling_score(scores, loss, included)
    assert found == pytest.approx(np.mean(columns)) and found > 0.5
    assert statistics.linear_datamodelling_score(-scores, loss, included) == pytest.approx(-found)
    row = statistics.evaluate(scores, xr.Dataset({"loss": loss, "included": included})).iloc[0]
    assert (row["metric"], row["scope"], row["value"]) == ("lds", "per_test", found)
    assert (row["low_query"], row["high_query"]) == pytest.approx(
        student(found, [np.mean(np.delete(columns, m)) for m in range(12)])
    )
    assert row["low_seed"] < found < row["high_seed"] <= 1 and found < row["ceiling"] <= 1


def test_permuted_subsets_have_an_lds_of_about_zero():
    rng = np.random.default_rng(8)
    scores, _ = noisy(rng, num_seeds=4)
    loss, included = subset_truth(rng, scores.values.mean(0), noise=0.1)
    found = [
        statistics.linear_datamodelling_score(scores, loss[:, rng.permutation(15)], included)
        for _ in range(200)
    ]
    assert np.mean(found) == pytest.approx(0, abs=4 * np.std(found) / np.sqrt(200))
    assert statistics.linear_datamodelling_score(scores, loss, included) > max(found)


@pytest.mark.parametrize("ties", [False, True])
def test_detection_is_sklearns_area_by_self_influence_or_minus_the_mean_score(ties):
    rng = np.random.default_rng(9)
    corrupted = xr.DataArray(np.arange(30) < 9, dims="train")
    scores = array(rng.normal(size=(4, 30, 8)) - 0.3 * corrupted.values[:, None])
    scores = scores.round(0) if ties else scores
    mean_score = scores.values.mean((0, 2))
    expected = roc_auc_score(corrupted, -mean_score)
    assert statistics.detection_auc(scores, corrupted) == pytest.approx(expected)
    self_influence = scores.isel(test=0)
    itself = roc_auc_score(corrupted, self_influence.values.mean(0))
    assert statistics.detection_auc(self_influence, corrupted) == pytest.approx(itself)
    table = statistics.evaluate({"mean": scores, "self": self_influence}, corrupted)
    assert table["value"].tolist() == pytest.approx([expected, itself])
    replicates = [
        roc_auc_score(np.delete(corrupted, n), -np.delete(mean_score, n)) for n in range(30)
    ]
    ends = student(
        expected, replicates, lambda a: np.arctanh(2 * a - 1), lambda z: np.tanh(z) / 2 + 0.5
    )
    assert tuple(table.loc[0, ["low_query", "high_query"]]) == pytest.approx(ends)
    assert (table["ceiling"] == 1).all() and (table["n_truth_seeds"] == 0).all()
    assert (table["low_seed"] < table["value"]).all()


def test_the_interval_over_examples_is_about_delongs():
    rng = np.random.default_rng(10)
    corrupted = xr.DataArray(np.arange(90) < 30, dims="train")
    scores = array(rng.normal(size=(3, 90, 1)) - 0.5 * corrupted.values[:, None])
    row = statistics.evaluate(scores, corrupted).iloc[0]
    x, y = (-scores.values.mean((0, 2))[corrupted == side] for side in (True, False))
    wins = (x[:, None] > y).astype(float)
    error = np.sqrt(wins.mean(1).var(ddof=1) / 30 + wins.mean(0).var(ddof=1) / 60)
    assert row["high_query"] - row["low_query"] == pytest.approx(2 * 1.987 * error, rel=0.1)


def test_one_seed_or_two_queries_have_values_but_no_interval():
    scores, loo = noisy(np.random.default_rng(11))
    few = statistics.evaluate(scores.isel(seed=[0], test=[0, 1]), loo.isel(test=[0, 1]))
    assert few["value"].notna().all() and few["ceiling"].notna().all()
    ends = ["low_seed", "high_seed", "low_query", "high_query", "cross_half"]
    assert few[ends].isna().all(axis=None)
    both = statistics.compare({"a": scores.isel(seed=[0]), "b": scores}, loo)
    assert both["p_seed"].isna().all() and both["p_holm_seed"].isna().all()
    assert both["p_query"].notna().all()


def test_a_truth_without_seeds_has_no_ceiling():
    scores, loo = noisy(np.random.default_rng(12))
    table = statistics.evaluate(scores, loo.mean("seed"))
    expected = statistics.evaluate(scores, loo)
    np.testing.assert_allclose(table["value"], expected["value"])
    assert table["ceiling"].isna().all() and (table["n_truth_seeds"] == 0).all()
    assert (table["low_seed"] < table["value"]).all()


def test_comparison_is_the_paired_jackknife_of_the_difference():
    rng = np.random.default_rng(13)
    a, loo = noisy(rng)
    b = a + 0.8 * array(rng.normal(size=a.shape))
    found = pick(statistics.compare({"a": a, "b": b}, loo), metric="spearman", scope="per_test")

    def difference(seeds, tests):
        x, y, truth = (np.delete(v.values, seeds, 0).mean(0) for v in (a, b, loo))
        x, y, truth = (np.delete(v, tests, 1) for v in (x, y, truth))
        kinds = ("spearman", "per_test")
        return correlation(x, truth, *kinds) - correlation(y, truth, *kinds)

    value = difference([], [])
    assert found["difference"] == pytest.approx(value)
    for over, values in {
        "seed": [difference(s, []) for s in range(6)],
        "query": [difference([], m) for m in range(12)],
    }.items():
        ends = student(value, values, np.asarray, float)
        assert (found[f"low_{over}"], found[f"high_{over}"]) == pytest.approx(ends)
        error = (ends[1] - ends[0]) / 2 / stats.t.ppf(0.975, len(values) - 1)
        p = 2 * stats.t.sf(abs(value) / error, len(values) - 1)
        assert found[f"p_{over}"] == pytest.approx(p)


def test_equal_methods_do_not_differ_and_three_methods_are_corrected_by_holm():
    rng = np.random.default_rng(14)
    a, loo = noisy(rng)
    methods = {"a": a, "same": a, "noise": array(rng.normal(size=a.shape))}
    table = statistics.compare(methods, loo)
    same = table[table["method_b"] == "same"]
    assert (same["difference"] == 0).all() and (same[["p_seed", "p_query"]] == 1).all(axis=None)
    for _, rows in table.groupby(["metric", "scope"]):
        assert len(rows) == 3
        for over in ("seed", "query"):
            p = rows[f"p_{over}"].to_numpy()
            smallest = np.sort(p)[0]
            assert rows[f"p_holm_{over}"].to_numpy()[p == smallest][0] == min(1, 3 * smallest)


def test_holm_is_the_step_down_procedure_and_leaves_out_what_is_no_number():
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(holm(p), [0.03, np.nan, 0.06, 0.06, 0.02])


def test_sets_that_overlap_are_merged():
    assert merged([{1, 2}, {3}, {2, 3}]) == [{1, 2, 3}]
    assert merged([{1}, {2}, {1}]) == [{2}, {1}]


def one_draw(methods, truth, over):
    """Interval of method a's correlation and p of its difference to b, over seeds or queries."""
    measure = ("pearson", "all_pairs")
    problem = retraining(methods, truth)
    problem = replace(problem, measures={measure: problem.measures[measure]})
    a, b = problem.values(problem.mean_maps())[0]
    without = left_out(problem)
    everything = [*problem.methods.values(), problem.truth]
    factors = without.factors(everything) if over == "seed" else [without.by_query]
    low, high = value_interval(a, [factor[:, 0, 0] for factor in factors], -1.0)
    p = zero_p(a - b, [factor[:, 0, 0] - factor[:, 0, 1] for factor in factors])
    return {"value": a, "low": float(low), "high": float(high), "p": p}


def test_query_intervals_cover_and_exchangeable_methods_differ_as_often_as_chance():
    rng = np.random.default_rng(15)
    draws = []
    for _ in range(150):  # of test points: true correlation .8, models fixed
        signal, *noise = rng.normal(size=(3, 6, 25))
        methods = {
            name: array((0.8 * signal + 0.6 * own)[None])
            for name, own in zip("ab", noise, strict=True)
        }
        draws.append(one_draw(methods, array(signal[None]), "query"))
    found = pd.DataFrame(draws)
    # 1000 draws gave .945 and .048; these are the bounds of 150 draws at three standard errors.
    assert 0.89 <= ((found["low"] <= 0.8) & (found["high"] >= 0.8)).mean() < 1
    assert 0 < (found["p"] < 0.05).mean() <= 0.105


@pytest.mark.parametrize("shared", [True, False])
def test_seed_intervals_cover_and_a_null_is_rejected_as_often_as_chance(shared):
    rng = np.random.default_rng(16)
    # Orthogonal signals of equal length: both methods have the same expected correlation.
    base, one, two = np.linalg.qr(rng.normal(size=(80, 3)))[0].T.reshape(3, 8, 10) * np.sqrt(80)
    seeds = None if shared else np.arange(8) + 100
    draws = []
    for _ in range(150):
        noise = rng.normal(size=(3, 8, 8, 10))
        methods = {"a": array(base + one + noise[0]), "b": array(base + two + noise[1])}
        draws.append(one_draw(methods, array(base + noise[2], seeds=seeds), "seed"))
    found = pd.DataFrame(draws)
    expected = found["value"].mean()
    inside = (found["low"] <= expected) & (expected <= found["high"])
    # 1000 draws gave .952 and .04.
    assert 0.89 <= inside.mean() < 1
    assert 0 < (found["p"] < 0.05).mean() <= 0.105


def test_many_queries_are_left_out_in_groups_with_about_the_same_interval():
    rng = np.random.default_rng(17)
    signal = rng.normal(size=(4, 700))
    scores = array((signal + rng.normal(size=signal.shape))[None])
    row = pick(statistics.evaluate(scores, array(signal[None])), metric="pearson", scope="per_test")
    columns = [np.corrcoef(x, y)[0, 1] for x, y in zip(scores.values[0].T, signal.T, strict=True)]
    exact = student(np.mean(columns), [np.mean(np.delete(columns, m)) for m in range(700)])
    assert row["high_query"] - row["low_query"] == pytest.approx(exact[1] - exact[0], rel=0.2)


SCORES, LOO = noisy(np.random.default_rng(18))
UNMARKED = xr.Dataset({"loss": LOO.rename(train="subset")}).assign(
    included=(("subset", "train"), np.ones((8, 8)))
)


@pytest.mark.parametrize(
    ("scores", "truth", "says"),
    [
        (SCORES, LOO.isel(train=slice(5)), r"differ along 'train' \(8 and 5.*\.sel\(train="),
        (SCORES, LOO.assign_coords(test=np.arange(12) + 1), "differ along 'test'"),
        (SCORES, LOO.rename(train="group"), "scores of 'scores' need the dims .seed, group, test."),
        (SCORES.isel(seed=0), LOO, "add 'seed'"),
        (SCORES, LOO.expand_dims("layer"), "truth have the dim 'layer'"),
        (SCORES, LOO.where(LOO > 0), "values of truth are not finite"),
        (SCORES, LOO.values, "truth must be"),
        ({}, LOO, "dict with one for each method"),
        (SCORES, LOO.rename(train="subset"), "'included'"),
        (SCORES, xr.DataArray(np.zeros(8, int), dims="train"), "boolean with dim train"),
        (SCORES, xr.DataArray(np.zeros(8, bool), dims="train"), "needs both kinds"),
        (SCORES, UNMARKED, "must be boolean"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused_with_the_remedy(scores, truth, says):
    with pytest.raises(ValueError, match=says):
        statistics.evaluate(scores, truth)


def test_one_method_cannot_be_compared():
    with pytest.raises(ValueError, match="two methods"):
        statistics.compare({"a": SCORES}, LOO)


def test_unknown_kinds_and_scopes_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="kinds are pearson, spearman, scopes all_pairs, per_test"):
        statistics.loo_correlation(SCORES, LOO, "kendall")
