"""Variance components are those of analysis of variance, on planted effects."""

from itertools import product

import numpy as np
import pytest
import xarray as xr

from bayestda import statistics

DIMS = ("seed", "checkpoint", "train", "test")
TREND = xr.DataArray([0.0, 10.0, 5.0, -5.0], dims="checkpoint")


def trend(std, checkpoints):
    """An effect of epochs common to all runs, of exactly this standard deviation."""
    steps = np.arange(checkpoints) - (checkpoints - 1) / 2
    return std * (steps / steps.std(ddof=1))[:, None, None]


def seed_scores(rng, stds=(1.0, 1.0, 1.0), seeds=10, checkpoints=4, pairs=(4, 5)):
    of_seed = rng.normal(0, stds[0], (seeds, 1, *pairs))
    noise = rng.normal(0, stds[2], (seeds, checkpoints, *pairs))
    values = of_seed + trend(stds[1], checkpoints) + noise
    return xr.DataArray(values, dims=DIMS, coords={"seed": np.arange(seeds)})


def crossed_scores(rng, stds, levels=(4, 4), checkpoints=3, pairs=(4, 5)):
    inits, orders = levels
    shapes = [(inits, 1, 1), (1, orders, 1), (inits, orders, 1), (inits, orders, checkpoints)]
    random = [*stds[:3], stds[4]]
    parts = [
        rng.normal(0, std, (*shape, *pairs)) for std, shape in zip(random, shapes, strict=True)
    ]
    return xr.DataArray(sum(parts) + trend(stds[3], checkpoints), dims=("init", "order", *DIMS[1:]))


def test_variance_over_all_pairs_of_models_is_that_of_the_double_loop():
    rng = np.random.default_rng(0)
    test_loss = rng.normal(1, 0.3, (3, 2, 5))
    score = rng.normal(0, 0.2, (3, 2, 4, 5))
    retrained = (score + test_loss[:, :, None]).reshape(6, 4, 5)
    base = test_loss.reshape(6, 5)
    differences = [retrained[t] - base[u] for t, u in product(range(6), repeat=2)]
    result = statistics.pooled_pair_variance(
        xr.DataArray(score, dims=DIMS), xr.DataArray(test_loss, dims=("seed", "checkpoint", "test"))
    )
    np.testing.assert_allclose(result, np.var(differences, axis=0), rtol=1e-12)


def test_variance_over_all_pairs_exceeds_that_of_the_paired_score_where_models_share_noise():
    rng = np.random.default_rng(1)
    score = seed_scores(rng, (0.1, 0.1, 0.1))
    test_loss = xr.DataArray(rng.normal(0, 1, (10, 4, 5)), dims=("seed", "checkpoint", "test"))
    row = statistics.pooled_pair_share(score, test_loss).iloc[0]
    pooled = float(statistics.pooled_pair_variance(score, test_loss).mean())
    total = sum(float(part.mean()) for part in statistics.seed_components(score).values())
    assert row["share"] == pytest.approx(pooled / total) and row["share"] > 50
    assert row["low"] < row["share"] < row["high"]


def test_scores_that_are_all_zero_have_no_shares():
    score = xr.DataArray(np.zeros((3, 2, 4, 5)), dims=DIMS)
    test_loss = xr.DataArray(np.ones((3, 2, 5)), dims=("seed", "checkpoint", "test"))
    row = statistics.pooled_pair_share(score, test_loss).iloc[0]
    assert row["variance"] == 0 and np.isnan(row["share"])


def test_seed_components_are_the_anova_estimates():
    scores = seed_scores(np.random.default_rng(2), seeds=5, checkpoints=3)
    result = statistics.seed_components(scores)
    values, mean = scores.values, scores.values.mean((0, 1))
    of_seed, of_epoch = values.mean(1) - mean, values.mean(0) - mean
    residual = sum(
        (values[s, c] - mean - of_seed[s] - of_epoch[c]) ** 2
        for s, c in product(range(5), range(3))
    ) / (4 * 2)
    expected = {
        "seed": ((3 * of_seed**2).sum(0) / 4 - residual) / 3,
        "epoch": ((5 * of_epoch**2).sum(0) / 2 - residual) / 5,
        "seed_x_epoch": residual,
    }
    assert list(result) == list(expected)
    for name, variance in expected.items():
        np.testing.assert_allclose(result[name], variance, rtol=1e-10, atol=1e-12)


def test_seed_and_epoch_are_mean_covariances_even_of_correlated_checkpoints():
    rng = np.random.default_rng(11)
    walk = seed_scores(rng, seeds=6, checkpoints=4, pairs=(1, 1)).cumsum("checkpoint")
    result = statistics.seed_components(walk)
    values_SC = walk.values[:, :, 0, 0]
    for name, covariance in (("seed", np.cov(values_SC.T)), ("epoch", np.cov(values_SC))):
        different = covariance[~np.eye(len(covariance), dtype=bool)]
        assert result[name].item() == pytest.approx(different.mean(), rel=1e-10)


@pytest.mark.parametrize("stds", [(0.5, 1.0, 1.5), (1.5, 0.0, 1.0), (0.0, 2.0, 0.5)])
def test_planted_seed_components_are_recovered(stds):
    scores = seed_scores(np.random.default_rng(3), stds, pairs=(40, 50))
    result = statistics.seed_components(scores)
    means = [float(result[name].mean()) for name in ("seed", "epoch", "seed_x_epoch")]
    np.testing.assert_allclose(means, np.square(stds), atol=0.08)


def test_a_trend_common_to_all_runs_changes_no_component_but_its_own():
    scores = seed_scores(np.random.default_rng(12), (1.0, 0.0, 1.0))
    before, after = (statistics.seed_components(s) for s in (scores, scores + TREND))
    for name in ("seed", "seed_x_epoch"):
        np.testing.assert_allclose(after[name], before[name], rtol=1e-9, atol=1e-12)
    assert (after["epoch"] > before["epoch"] + 1).all()


def test_components_that_are_absent_are_estimated_negative_about_half_the_time():
    scores = seed_scores(np.random.default_rng(3), (0.0, 0.0, 2.0), pairs=(40, 50))
    result = statistics.seed_components(scores)
    for name in ("seed", "epoch"):
        assert abs(float(result[name].mean())) < 0.05
        assert float((result[name] < 0).mean()) > 0.3


def test_one_checkpoint_has_the_variance_of_seeds_alone():
    one = seed_scores(np.random.default_rng(9)).isel(checkpoint=[0])
    result = statistics.seed_components(one)
    assert list(result) == ["seed"]
    np.testing.assert_allclose(result["seed"], one.values[:, 0].var(axis=0, ddof=1), rtol=1e-10)
    assert statistics.seed_shares(one)["share"].tolist() == [1]
    grid = crossed_scores(np.random.default_rng(9), (1, 1, 1, 1, 1)).isel(checkpoint=[0])
    assert statistics.crossed_shares(grid)["component"].tolist() == ["init", "order", "interaction"]


def test_planted_crossed_components_are_recovered():
    stds = (1.0, 2.0, 0.5, 3.0, 1.5)
    scores = crossed_scores(np.random.default_rng(4), stds, pairs=(60, 60))
    result = statistics.crossed_components(scores)
    assert list(result) == ["init", "order", "interaction", "epoch", "run_x_epoch"]
    means = [float(variance.mean()) for variance in result.values()]
    np.testing.assert_allclose(means, np.square(stds), atol=0.2)


def test_crossed_components_of_a_grid_without_noise_are_exact():
    init, order = np.array([0.0, 1.0, 3.0]), np.array([0.0, 2.0, 2.5, 7.0])
    epoch = np.array([1.0, 5.0])
    values = ((init[:, None] + order)[:, :, None] + epoch)[..., None, None]
    result = statistics.crossed_components(xr.DataArray(values, dims=("init", "order", *DIMS[1:])))
    expected = [init.var(ddof=1), order.var(ddof=1), 0, epoch.var(ddof=1), 0]
    np.testing.assert_allclose([part.item() for part in result.values()], expected, atol=1e-12)


def coverage(draw, shares, truth, repeats=100) -> np.ndarray:
    tables = [shares(draw()) for _ in range(repeats)]
    return np.mean([(t["low"] <= truth) & (truth <= t["high"]) for t in tables], axis=0)


def test_intervals_of_seed_shares_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(5)
    covered = coverage(lambda: seed_scores(rng), statistics.seed_shares, np.full(3, 1 / 3))
    assert (covered > 0.88).all()


def test_intervals_of_crossed_shares_cover_the_truth_at_least_as_often_as_they_say():
    rng = np.random.default_rng(6)
    covered = coverage(
        lambda: crossed_scores(rng, (1,) * 5), statistics.crossed_shares, np.full(5, 0.2), 60
    )
    assert (covered > 0.9).all()


def test_shares_add_up_to_one_and_lie_within_their_intervals():
    rng = np.random.default_rng(7)
    tables = [
        statistics.seed_shares(seed_scores(rng)),
        statistics.crossed_shares(crossed_scores(rng, (1, 2, 3, 1, 1))),
    ]
    for table in tables:
        assert table["share"].sum() == pytest.approx(1)
        assert ((table["low"] < table["share"]) & (table["share"] < table["high"])).all()


def test_two_seeds_have_shares_but_no_interval():
    table = statistics.seed_shares(seed_scores(np.random.default_rng(8), seeds=2))
    assert table["share"].notna().all()
    assert table[["low", "high"]].isna().all(axis=None)


def test_scores_that_never_vary_have_no_shares():
    scores = xr.DataArray(np.ones((4, 3, 2, 2)), dims=DIMS)
    assert statistics.seed_shares(scores)["share"].isna().all()


def test_one_level_cannot_be_decomposed():
    rng = np.random.default_rng(9)
    with pytest.raises(ValueError, match="two levels of seed"):
        statistics.seed_components(seed_scores(rng, seeds=1))
    with pytest.raises(ValueError, match="two levels of order"):
        statistics.crossed_components(crossed_scores(rng, (1, 1, 1, 1, 1), levels=(4, 1)))


def test_runs_become_a_grid_whatever_their_order_and_a_hole_is_an_error():
    grid = crossed_scores(np.random.default_rng(10), (1, 1, 1, 1, 1), levels=(2, 3))
    cells = [(1, 2), (0, 0), (1, 0), (0, 2), (0, 1), (1, 1)]
    stacked = xr.concat([grid.isel(init=i, order=o) for i, o in cells], dim="seed").assign_coords(
        seed=[f"{i}x{o}" for i, o in cells],
        init=("seed", [i for i, _ in cells]),
        order=("seed", [o for _, o in cells]),
    )
    back = statistics.to_grid(stacked).transpose(*grid.dims)
    np.testing.assert_array_equal(back, grid)
    with pytest.raises(ValueError, match="5 runs do not fill a grid"):
        statistics.to_grid(stacked.isel(seed=slice(5)))
