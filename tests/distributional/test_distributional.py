"""Differences of distributions over runs, rankings, predictions and their validation."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import bayestda as tda
from bayestda.distributional.differences import DIFFERENCES, difference_of, wasserstein
from bayestda.distributional.influence import beside_mean
from bayestda.distributional.samples import Paired, samples_of
from bayestda.errors import UserError
from bayestda.statistics.reliability import spearman_brown

S, N, M = 40, 6, 3


def samples(num_runs=S, seed=0):
    """Measured values and shifts of independent runs."""
    rng = np.random.default_rng(seed)
    coords = {"seed": range(100, 100 + num_runs), "test": [7, 8, 9]}
    measured = xr.DataArray(rng.normal(size=(num_runs, M)), dims=("seed", "test"), coords=coords)
    shifts = xr.DataArray(
        0.1 * rng.normal(size=(num_runs, N, M)) + 0.05,
        dims=("seed", "train", "test"), coords=coords | {"train": range(20, 20 + N)},
    )  # fmt: skip
    return measured, shifts


def name_of(difference):
    return difference_of(difference).name


def value(difference, data=None):
    measured, shifts = data or samples()
    return tda.distributional_influence(measured, shifts, difference, num_resamples=0)["value"]


def both(data=None):
    """Samples before and after [S N M]."""
    measured, shifts = data or samples()
    before = np.broadcast_to(measured.values[:, None], shifts.shape)
    return before, before + shifts.values


def test_the_variance_changes_by_twice_the_covariance_and_the_variance_of_shifts():
    measured, shifts = samples()
    centred = measured.values[:, None] - measured.values.mean(0)
    covariance = (centred * (shifts.values - shifts.values.mean(0))).sum(0) / (S - 1)
    expected = 2 * covariance + shifts.values.var(0, ddof=1)
    np.testing.assert_allclose(value("variance").values, expected, rtol=1e-10)


def test_differences_equal_their_definitions():
    before, after = both()
    _, shifts = samples()
    np.testing.assert_allclose(value("mean").values, shifts.values.mean(0), rtol=1e-10)
    expected = after.std(0, ddof=1) - before.std(0, ddof=1)
    np.testing.assert_allclose(value("std").values, expected, rtol=1e-9)
    expected = np.quantile(after, 0.8, axis=0) - np.quantile(before, 0.8, axis=0)
    np.testing.assert_allclose(value(tda.quantile(0.8)).values, expected, rtol=1e-9)
    c = np.array([0.0, 0.5, 1.0])
    expected = (after > c).mean(0) - (before > c).mean(0)
    np.testing.assert_allclose(value(tda.tail(c)).values, expected, atol=1e-12)
    found = value("mean")
    assert found.dims == ("train", "test")
    assert found["train"].values.tolist() == list(range(20, 26))


def test_any_function_of_two_samples_is_a_difference():
    before, after = both()
    found = value(stats.wasserstein_distance).values
    for place in np.ndindex(N, M):
        pair = before[:, *place], after[:, *place]
        np.testing.assert_allclose(found[place], stats.wasserstein_distance(*pair))
    named = tda.distributional_influence(*samples(), stats.energy_distance, num_resamples=5)
    assert named.attrs["difference"] == "energy_distance"
    assert set(named) == {"value", "low", "high"}


def optimal_cost(x, y):
    """W2 by the transport problem, as a linear program."""
    from scipy.optimize import linprog

    cost = (x[:, None] - y[None, :]) ** 2
    rows = np.kron(np.eye(len(x)), np.ones(len(y)))
    columns = np.kron(np.ones(len(x)), np.eye(len(y)))
    masses = np.concatenate([np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))])
    solved = linprog(cost.ravel(), A_eq=np.concatenate([rows, columns]), b_eq=masses)
    return np.sqrt(solved.fun)


@pytest.mark.parametrize("sizes", [(9, 9), (9, 6), (4, 11), (1, 5)])
def test_wasserstein_is_the_optimal_transport_between_samples(sizes):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=sizes[0]), rng.gamma(2.0, size=sizes[1])
    np.testing.assert_allclose(wasserstein(x, y), optimal_cost(x, y), rtol=1e-6)
    grid = (np.arange(20_000) + 0.5) / 20_000  # the same, as an integral over quantile functions
    quantiles = [np.quantile(s, grid, method="inverted_cdf") for s in (x, y)]
    expected = np.sqrt(np.mean((quantiles[0] - quantiles[1]) ** 2))
    np.testing.assert_allclose(wasserstein(x, y), expected, rtol=1e-3)


def test_wasserstein_of_order_one_by_sorting_is_that_of_scipy():
    """Sorting is the optimal coupling: the same one that scipy's distance of order 1 uses."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 50))
    by_sorting = np.abs(np.sort(x) - np.sort(y)).mean()
    np.testing.assert_allclose(by_sorting, stats.wasserstein_distance(x, y))
    assert wasserstein(x, y) >= stats.wasserstein_distance(x, y)


def test_wasserstein_between_gaussians_has_its_closed_form():
    """W2² = (μ₁ − μ₂)² + (σ₁ − σ₂)²."""
    quantiles = (np.arange(100_000) + 0.5) / 100_000
    x, y = stats.norm(1.0, 0.5).ppf(quantiles), stats.norm(-0.5, 1.25).ppf(quantiles)
    np.testing.assert_allclose(wasserstein(x, y), np.hypot(1.5, 0.75), rtol=1e-3)
    np.testing.assert_allclose(wasserstein(x, x + 0.25), 0.25, rtol=1e-12)
    stacked = wasserstein(np.stack([x, y], 1), np.stack([y, x], 1))
    np.testing.assert_allclose(stacked, np.hypot(1.5, 0.75), rtol=1e-3)


@pytest.mark.parametrize("difference", ["mean", "variance"])
def test_intervals_over_runs_cover_the_truth(difference):
    """Of 1,200 differences of 30 runs each, about 95 % of the intervals hold the true one."""
    rng = np.random.default_rng(5)
    measured = xr.DataArray(rng.normal(size=(30, 300)), dims=("seed", "test"))
    shifts = xr.DataArray(0.2 * rng.normal(size=(30, 4, 300)) + 0.1, dims=("seed", "train", "test"))
    shifts += 0.3 * measured
    found = tda.distributional_influence(measured, shifts, difference)
    truth = {"mean": 0.1, "variance": 1.3**2 + 0.04 - 1}[difference]
    covered = float(((found.low < truth) & (truth < found.high)).mean())
    assert 0.90 < covered < 0.98


def test_a_shift_of_every_run_is_a_certain_change_of_the_mean_alone():
    measured, shifts = samples()
    moved = shifts * 0 + 0.3
    assert np.allclose(value("variance", (measured, moved)), 0, atol=1e-12)
    found = tda.distributional_influence(measured, moved, "wasserstein")
    for name in ("value", "low", "high"):
        np.testing.assert_allclose(found[name], 0.3, rtol=1e-9)


def known_shifts():
    """Example 0 moves the mean, 1 widens, 2 narrows, 3 fattens the upper tail, 4 does nothing."""
    rng = np.random.default_rng(8)
    m = rng.normal(size=400)
    own = np.stack([0 * m + 0.5, 0.4 * (m - m.mean()), -0.4 * (m - m.mean()), 0 * m, 0 * m], 1)
    extreme = m > np.quantile(m, 0.9)
    own[extreme, 3] = 1.5
    own[~extreme, 3] = -1.5 * extreme.sum() / (~extreme).sum()
    own += 0.02 * rng.normal(size=own.shape)
    measured = xr.DataArray(m[:, None], dims=("seed", "test"), coords={"test": [0]})
    shifts = xr.DataArray(own[..., None], dims=("seed", "train", "test"), coords={"test": [0]})
    return measured, shifts.assign_coords(train=range(5))


def test_a_ranking_finds_what_changes_the_spread_or_a_tail_without_the_mean():
    table = tda.rank_removals(*known_shifts(), "variance").set_index("train")
    assert set(table.index[:3]) == {1, 2, 3}
    assert table.loc[[1, 2, 3], "only"].all()
    assert not table.loc[[0, 4], "only"].any()
    assert table.loc[1, "value"] > 0 > table.loc[2, "value"]
    tails = tda.rank_removals(*known_shifts(), tda.tail(2.6)).set_index("train")
    assert tails.index[0] == 3
    assert tails.loc[3, "only"]
    assert tails.loc[3, "rank"] == tails.loc[3, "rank_high"] == 1
    means = tda.rank_removals(*known_shifts(), "mean").set_index("train")
    assert means.index[0] == 0
    assert not means["only"].any()
    assert (table["rank_low"] <= table["rank"]).all()
    assert (table["rank"] <= table["rank_high"]).all()


def test_a_shift_that_all_runs_share_has_no_uncertainty():
    rng, m = np.random.default_rng(2), np.arange(8.0)
    own = np.stack([np.full(8, 0.5), np.zeros(8), rng.normal(size=8)], axis=1)
    measured = xr.DataArray(m[:, None], dims=("seed", "test"))
    shifts = xr.DataArray(own[..., None], dims=("seed", "train", "test"))
    rates = tda.rank_removals(measured, shifts, "mean").set_index("train")["q"]
    assert (rates[0], rates[1]) == (0, 1)


MOVING = ["mean", "wasserstein", "variance", "std", tda.quantile(0.8), tda.tail(0.5),
          stats.wasserstein_distance]  # fmt: skip


@pytest.mark.parametrize("difference", MOVING, ids=name_of)
def test_a_shift_equal_in_all_runs_changes_only_the_mean(difference):
    """By a twentieth of a standard deviation, a mean that counts as unchanged."""
    m = np.random.default_rng(9).normal(size=60)
    own = np.stack([np.full(60, 0.05 * m.std()), np.full(60, -0.03), np.zeros(60)], axis=1)
    measured = xr.DataArray(m[:, None], dims=("seed", "test"))
    shifts = xr.DataArray(own[..., None], dims=("seed", "train", "test"))
    table = tda.rank_removals(measured, shifts, difference, num_resamples=50)
    assert not table["only"].any()


def test_a_distance_finds_what_changes_the_spread_or_a_tail_without_the_mean():
    table = tda.rank_removals(*known_shifts(), "wasserstein").set_index("train").sort_index()
    assert table["only"].tolist() == [False, True, True, True, False]


def test_a_distance_is_that_of_the_means_and_that_beside_them():
    pairs = Paired.of(*samples())
    beside = pairs.moved_to(pairs.before.mean(0)).value(DIFFERENCES["wasserstein"])
    both = np.hypot(value("mean").values, beside)
    np.testing.assert_allclose(value("wasserstein").values, both, rtol=1e-10)


@pytest.mark.parametrize("difference", ["variance", "wasserstein", tda.quantile(0.8)], ids=name_of)
def test_one_in_twenty_removals_that_change_only_the_mean_seems_to_change_more(difference):
    rng = np.random.default_rng(10)
    common, own, other = rng.standard_t(5, (3, 40, 1, 1500))
    before, after = common + 0.5 * own, common + 0.5 * other + 0.3
    pairs = Paired(before, after, xr.DataArray(np.zeros((1, 1500)), dims=("train", "test")))
    rates = beside_mean(pairs, difference_of(difference), 100)
    assert 0.015 < (rates < 0.05).mean() < 0.065


def test_averaging_runs_first_hides_all_but_the_mean():
    """Why shifts stay by run: their mean is that of an example that does nothing."""
    _, shifts = known_shifts()
    assert float(abs(shifts.mean("seed").sel(train=[1, 2, 3])).max()) < 0.005


def test_predictions_sum_shifts_within_each_run():
    measured, shifts = samples()
    found = tda.predict_removal(measured, shifts, [21, 24])
    expected = measured.values + shifts.values[:, 1] + shifts.values[:, 4]
    np.testing.assert_allclose(found.values, expected, rtol=1e-12)
    np.testing.assert_array_equal(found["before"].values, measured.values)
    groups = np.zeros((2, N), dtype=bool)
    groups[0, [1, 4]] = True
    many = tda.predict_removal(measured, shifts, groups)
    assert many.dims == ("seed", "group", "test")
    np.testing.assert_allclose(many.values[:, 0], expected, rtol=1e-12)
    np.testing.assert_array_equal(many.values[:, 1], measured.values)
    grouped = tda.group_scores(shifts, groups).assign_coords(group=["pair", "none"])
    named = tda.predict_removal(measured, grouped, ["pair"])
    np.testing.assert_allclose(named.values, expected, rtol=1e-12)


def removals(num_groups=12, num_runs=60, noise=0.0, seed=2):
    """Predicted samples of removals, and retrained ones that differ from them by noise."""
    rng = np.random.default_rng(seed)
    measured, shifts = samples(num_runs)
    groups = rng.random((num_groups, N)) < 0.5
    shifts = shifts + xr.DataArray(rng.normal(size=N), dims="train")
    shifts = shifts + xr.DataArray(0.5 * rng.normal(size=N), dims="train") * measured
    predicted = tda.predict_removal(measured, shifts, groups)
    retrained = predicted.drop_vars("before").rename(group="member")
    return predicted, retrained + noise * rng.normal(size=retrained.shape)


def test_a_perfect_prediction_has_no_error_and_a_full_score():
    found = tda.validate(*removals(), num_resamples=20)
    np.testing.assert_allclose(found.errors[["mean_error", "w2_predicted"]], 0, atol=1e-12)
    np.testing.assert_allclose(found.errors["gain"], found.errors["w2_before"])
    np.testing.assert_allclose(found.lds["value"], 1)
    assert found.lds["difference"].tolist() == ["mean", "variance", "wasserstein"]
    assert (found.lds["cross_half"] < 1).all()
    assert (found.lds["n_groups"] == 12).all()
    predicted, retrained = removals()
    turned = tda.validate(predicted, retrained.isel(seed=slice(None, None, -1)), num_resamples=20)
    np.testing.assert_allclose(turned.errors.to_numpy(), found.errors.to_numpy(), atol=1e-12)


def test_errors_and_scores_are_those_of_scipy():
    predicted, retrained = removals(noise=0.4)
    found = tda.validate(predicted, retrained, num_resamples=20)
    before, after, truth = predicted["before"].values, predicted.values, retrained.values
    row = found.errors.set_index(["group", "test"]).loc[(3, 8)]
    expected = truth[:, 3, 1].mean() - before[:, 1].mean()
    np.testing.assert_allclose(row["mean_change"], expected)
    expected = wasserstein(before[:, 1], truth[:, 3, 1]) - wasserstein(
        after[:, 3, 1], truth[:, 3, 1]
    )
    np.testing.assert_allclose(row["gain"], expected)
    assert row["mean_low"] < row["mean_error"] < row["mean_high"]
    by_test = []
    for test in range(M):
        changes = [np.var(x[:, :, test], axis=0, ddof=1) for x in (after, truth)]
        by_test.append(stats.spearmanr(*changes).statistic)
    lds = found.lds.set_index("difference")
    np.testing.assert_allclose(lds.loc["variance", "value"], np.mean(by_test))
    assert lds.loc["variance", "low_seed"] < lds.loc["variance", "value"]
    assert lds.loc["variance", "low_group"] < lds.loc["variance", "value"]
    assert lds.loc["variance", "split_half"] < lds.loc["mean", "split_half"]


def named(sample, names):
    return sample.rename(member="group").assign_coords(group=names)


def test_removals_are_compared_by_their_names_where_both_have_some():
    predicted, retrained = removals(noise=0.4)
    names = [f"group {place}" for place in range(12)]
    turned = named(retrained, names).isel(group=slice(None, None, -1))
    whole = tda.validate(predicted, retrained, num_resamples=5)
    found = tda.validate(predicted.assign_coords(group=names), turned, num_resamples=5)
    columns = [name for name in whole.errors if name != "group"]
    np.testing.assert_allclose(found.errors[columns], whole.errors[columns], rtol=1e-12)
    assert found.errors["group"].unique().tolist() == names
    by_runs = tda.lds_by_runs(predicted.assign_coords(group=names), turned, [60])["value"]
    np.testing.assert_allclose(by_runs, whole.lds["value"], rtol=1e-12)
    by_order = tda.validate(predicted, named(retrained, names), num_resamples=5)
    np.testing.assert_allclose(by_order.errors[columns], whole.errors[columns], rtol=1e-12)
    for wrong in ([*names[:11], "another"], [*names[:11], names[0]]):
        with pytest.raises(UserError, match="name other removals"):
            tda.validate(predicted.assign_coords(group=names), named(retrained, wrong))


@pytest.mark.parametrize("shared", [True, False])
def test_an_odd_number_of_runs_leaves_one_out_of_both_halves(shared):
    predicted, retrained = removals(num_runs=9, noise=0.4)
    if not shared:
        retrained = retrained.assign_coords(seed=range(500, 509))
    ((_, samples),) = samples_of(predicted, retrained)
    truth, half, splits = retrained.values, 4, []
    every = {tuple(run.ravel()): place for place, run in enumerate(truth)}
    for first, second in samples.equal_halves(30):
        places = [[every[tuple(r.ravel())] for r in part.retrained] for part in (first, second)]
        assert [len(own) for own in places] == [len(set(own)) for own in places] == [half, half]
        assert not set(places[0]) & set(places[1])
        assert len(first.before) == len(second.before) == half
        spreads = [truth[own].var(0, ddof=1) for own in places]
        by_test = [stats.spearmanr(*(s[:, m] for s in spreads)).statistic for m in range(M)]
        splits.append(np.mean(by_test))
    asked = {"differences": ("variance",), "num_resamples": 30}
    lds = tda.validate(predicted, retrained, **asked).lds.set_index("difference")
    np.testing.assert_allclose(lds.loc["variance", "split_half"], np.mean(splits), rtol=1e-10)
    whole = spearman_brown(np.mean(splits), 9, half)
    np.testing.assert_allclose(lds.loc["variance", "ceiling"], max(whole, 0) ** 0.5, rtol=1e-10)


def test_an_even_number_of_runs_is_halved_as_for_intervals():
    ((_, samples),) = samples_of(*removals(num_runs=8))
    for own, other in zip(samples.halves(20), samples.equal_halves(20), strict=True):
        for one, another in zip(own, other, strict=True):
            np.testing.assert_array_equal(one.retrained, another.retrained)


def test_independent_runs_are_compared_with_the_null_line():
    """Retrained runs of other seeds and the same distribution are as far away as the line says."""
    rng = np.random.default_rng(11)
    measured = xr.DataArray(rng.normal(size=(50, 300)), dims=("seed", "test"))
    measured = measured.assign_coords(seed=range(50), test=range(300))
    none = xr.zeros_like(measured.expand_dims(train=[0, 1])).transpose("seed", "train", "test")
    predicted = tda.predict_removal(measured, none, np.zeros((1, 2), dtype=bool))
    retrained = xr.DataArray(rng.normal(size=(50, 1, 300)), dims=("seed", "member", "test"))
    retrained = retrained.assign_coords(seed=range(1000, 1050), test=range(300))
    errors = tda.validate(predicted, retrained, num_resamples=60).errors
    np.testing.assert_allclose(errors["w2_predicted"].mean(), errors["w2_null"].mean(), rtol=0.08)
    np.testing.assert_allclose(errors["w2_null"].mean(), 0.31, rtol=0.08)
    covered = ((errors["mean_low"] < 0) & (errors["mean_high"] > 0)).mean()
    assert covered > 0.9


def test_a_ranking_of_noise_scores_nothing():
    predicted, _ = removals()
    rng = np.random.default_rng(0)
    noise = xr.DataArray(rng.normal(size=predicted.shape), dims=("seed", "member", "test"))
    noise = noise.assign_coords(seed=predicted["seed"], test=predicted["test"])
    lds = tda.validate(predicted, noise, num_resamples=40).lds.set_index("difference")
    assert abs(lds.loc["mean", "value"]) < 0.5
    assert abs(lds.loc["mean", "split_half"]) < 0.3


def test_checkpoints_are_distributions_of_their_own():
    first, second = samples(), samples(seed=1)
    measured, shifts = (
        xr.concat(pair, "checkpoint").transpose("seed", "checkpoint", ...)
        for pair in zip(first, second, strict=True)
    )
    found = value("wasserstein", (measured, shifts))
    assert found.dims == ("checkpoint", "train", "test")
    np.testing.assert_allclose(found[1].values, value("wasserstein", second).values)
    groups = np.eye(N, dtype=bool)
    predicted = tda.predict_removal(measured, shifts, groups)
    checked = tda.validate(predicted, predicted.drop_vars("before"), num_resamples=10)
    assert len(checked.errors) == 2 * N * M
    assert len(checked.lds) == 2 * 3


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda m, s: (m, s.mean("seed")), "not their mean"),
    (lambda m, s: (m.isel(seed=slice(5)), s), "differ in seed: samples are paired"),
    (lambda m, s: (m.isel(test=[1, 0, 2]), s), "differ in test"),
    (lambda m, s: (m, s.where(s < 0.1)), "not finite"),
])  # fmt: skip
def test_samples_that_are_not_paired_are_refused(spoil, message):
    for use in (tda.distributional_influence, lambda m, s: tda.predict_removal(m, s, [20])):
        with pytest.raises(UserError, match=message):
            use(*spoil(*samples()))


def test_wrong_arguments_are_refused():
    measured, shifts = samples()
    with pytest.raises(UserError, match="difference='median' is unknown: choose one of mean"):
        value("median")
    with pytest.raises(UserError, match="between 0 and 1"):
        tda.quantile(5)
    with pytest.raises(UserError, match=r"remove=\[3\] are not among the names of the dim train"):
        tda.predict_removal(measured, shifts, [3, 20])
    with pytest.raises(UserError, match=r"groups must be booleans \[G, 6\]"):
        tda.predict_removal(measured, shifts, np.ones((1, 2), dtype=bool))
    few = {"seed": slice(2)}
    with pytest.raises(UserError, match="needs three runs or more, not 2"):
        tda.rank_removals(measured.isel(few), shifts.isel(few))
    predicted, retrained = removals()
    with pytest.raises(UserError, match="lacks the coordinate 'before'"):
        tda.validate(predicted.drop_vars("before"), retrained)
    with pytest.raises(UserError, match="12 removals are predicted and 11"):
        tda.validate(predicted, retrained.isel(member=slice(11)))
    with pytest.raises(UserError, match="share some seeds and not others"):
        tda.validate(predicted, retrained.isel(seed=slice(30)))
    with pytest.raises(UserError, match="needs four runs or more, not 3"):
        tda.validate(predicted.isel(seed=slice(3)), retrained.isel(seed=slice(3)))
    with pytest.raises(UserError, match="differ in test"):
        tda.validate(predicted, retrained.isel(test=[2, 1, 0]))
    assert set(DIFFERENCES) == {"mean", "variance", "std", "wasserstein"}


def test_distances_of_other_seeds_are_taken_from_their_own_sample():
    predicted, _ = removals()
    rng = np.random.default_rng(4)
    base = xr.DataArray(
        3 + rng.normal(size=(60, M)), {"seed": range(500, 560), "test": predicted["test"]},
        ("seed", "test"),
    )  # fmt: skip
    effects_GM = (predicted - predicted["before"]).mean("seed").reset_coords(drop=True)
    retrained = (base + effects_GM).rename(group="member").transpose("seed", "member", "test")
    asked = {"differences": ("mean", "wasserstein"), "num_resamples": 10}
    with pytest.warns(UserWarning, match="not ranked by wasserstein: .*assign_coords"):
        alone = tda.validate(predicted, retrained, **asked).lds.set_index("difference")
    assert alone.loc["mean", "value"] > 0.99
    columns = ["value", "split_half", "ceiling", "cross_half"]
    assert alone.loc["wasserstein", columns].isna().all()
    named = retrained.assign_coords(before=base)
    found = tda.validate(predicted, named, **asked).lds.set_index("difference")
    assert found.loc["wasserstein", "split_half"] > 0.99
    distance_GM = abs(effects_GM.transpose("group", "test").values)
    own = wasserstein(predicted["before"].values[:, None], predicted.values)
    expected = [stats.spearmanr(own[:, m], distance_GM[:, m]).statistic for m in range(M)]
    assert found.loc["wasserstein", "value"] == pytest.approx(np.mean(expected))
    by_runs = tda.lds_by_runs(predicted, named, [60], differences=("wasserstein",))["value"]
    assert by_runs.item() == pytest.approx(np.mean(expected))


def test_lds_by_runs_is_that_of_the_chosen_runs_against_all_retrained():
    measured, shifts = samples()
    groups = np.eye(N, dtype=bool)
    predicted = tda.predict_removal(measured, shifts, groups)
    other_measured, other_shifts = samples(num_runs=30, seed=1)
    retrained = other_measured + 3 * other_shifts
    retrained = retrained.rename(train="group").assign_coords(seed=range(500, 530))
    retrained = retrained.assign_coords(group=range(N)).transpose("seed", "group", "test")
    wanted = ("mean", "variance")
    found = tda.lds_by_runs(predicted, retrained, [1, 5, S], differences=wanted, num_draws=3)
    table = found.set_index(["n_seeds", "difference"])
    whole = tda.validate(predicted, retrained, differences=wanted, num_resamples=4).lds
    whole = whole.set_index("difference")
    assert np.isnan(table.loc[(1, "variance"), "value"])
    np.testing.assert_allclose(table.loc[S]["value"], whole["value"], rtol=1e-12)
    assert table.loc[S]["low"].isna().all()
    rng, expected = np.random.default_rng(0), []
    for _ in range(3):
        own = rng.choice(S, 5, replace=False)
        truth = retrained.values.mean(0)
        spread = [
            stats.spearmanr(shifts.values[own, :, m].mean(0), truth[:, m])[0] for m in range(M)
        ]
        expected.append(np.mean(spread))
    np.testing.assert_allclose(table.loc[(5, "mean"), "value"], np.mean(expected), rtol=1e-10)
    assert table.loc[(5, "mean"), "low"] < table.loc[(5, "mean"), "high"]
    with pytest.raises(UserError, match="must be between 1 and 40"):
        tda.lds_by_runs(predicted, retrained, [S + 1])
    with pytest.raises(UserError, match="needs three removals or more, not 2"):
        two = {"group": [0, 1]}
        tda.lds_by_runs(predicted.isel(two), retrained.isel(two), [4], differences=wanted)
