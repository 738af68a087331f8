from itertools import product

import numpy as np
import pytest
import xarray as xr

from tda import statistics

DIMS = ("seed", "checkpoint", "train", "test")


def nested_scores(rng, seed_std=1.0, checkpoint_std=1.0, seeds=10, checkpoints=4, pairs=(4, 5)):
    of_seed = rng.normal(0, seed_std, (seeds, 1, *pairs))
    noise = rng.normal(0, checkpoint_std, (seeds, checkpoints, *pairs))
    return xr.DataArray(of_seed + noise, dims=DIMS, coords={"seed": np.arange(seeds)})


def crossed_scores(rng, stds, levels=(4, 4), checkpoints=3, pairs=(4, 5)):
    inits, orders = levels
    shapes = [(inits, 1, 1), (1, orders, 1), (inits, orders, 1), (inits, orders, checkpoints)]
    parts = [rng.normal(0, std, (*shape, *pairs)) for std, shape in zip(stds, shapes, strict=True)]
    return xr.DataArray(sum(parts), dims=("init", "order", *DIMS[1:]))


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
    score = nested_scores(rng, 0.1, 0.1)
    test_loss = xr.DataArray(rng.normal(0, 1, (10, 4, 5)), dims=("seed", "checkpoint", "test"))
    row = statistics.pooled_pair_share(score, test_loss).iloc[0]
    pooled = float(statistics.pooled_pair_variance(score, test_loss).mean())
    total = sum(float(part.mean()) for part in statistics.nested_components(score).values())
    assert row["share"] == pytest.approx(pooled / total) and row["share"] > 50
    assert row["low"] < row["share"] < row["high"]


def test_nested_components_are_the_anova_estimates():
    scores = nested_scores(np.random.default_rng(2), seeds=5, checkpoints=3)
    result = statistics.nested_components(scores)
    values = scores.values
    within = sum(
        (values[s, c] - values[s].mean(0)) ** 2 for s, c in product(range(5), range(3))
    ) / (5 * 2)
    between = 3 * sum((values[s].mean(0) - values.mean((0, 1))) ** 2 for s in range(5)) / 4
    np.testing.assert_allclose(result["checkpoint"], within, rtol=1e-12)
    np.testing.assert_allclose(result["seed"], (between - within) / 3, rtol=1e-10, atol=1e-12)


def test_nested_components_are_unbiased_and_may_be_negative():
    scores = nested_scores(np.random.default_rng(3), 0.0, 2.0, pairs=(40, 50))
    result = statistics.nested_components(scores)
    assert abs(float(result["seed"].mean())) < 0.05
    assert abs(float(result["checkpoint"].mean()) - 4) < 0.1
    assert float((result["seed"] < 0).mean()) > 0.3


def test_crossed_components_are_unbiased():
    stds = (1.0, 2.0, 0.5, 1.5)
    scores = crossed_scores(np.random.default_rng(4), stds, pairs=(60, 60))
    result = statistics.crossed_components(scores)
    means = [float(result[name].mean()) for name in ("init", "order", "interaction", "checkpoint")]
    np.testing.assert_allclose(means, np.square(stds), atol=0.2)


def test_crossed_components_of_a_grid_without_noise_are_exact():
    init, order = np.array([0.0, 1.0, 3.0]), np.array([0.0, 2.0, 2.5, 7.0])
    values = np.broadcast_to((init[:, None] + order)[:, :, None, None, None], (3, 4, 2, 1, 1))
    result = statistics.crossed_components(xr.DataArray(values, dims=("init", "order", *DIMS[1:])))
    expected = [init.var(ddof=1), order.var(ddof=1), 0, 0]
    np.testing.assert_allclose([part.item() for part in result.values()], expected, atol=1e-12)


def coverage(draw, shares, truth, repeats=100) -> np.ndarray:
    tables = [shares(draw()) for _ in range(repeats)]
    return np.mean([(t["low"] <= truth) & (truth <= t["high"]) for t in tables], axis=0)


def test_intervals_of_nested_shares_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(5)
    covered = coverage(lambda: nested_scores(rng), statistics.nested_shares, np.array([0.5, 0.5]))
    assert (covered > 0.88).all()


def test_intervals_of_crossed_shares_cover_the_truth_at_least_as_often_as_they_say():
    rng = np.random.default_rng(6)
    covered = coverage(
        lambda: crossed_scores(rng, (1, 1, 1, 1)), statistics.crossed_shares, np.full(4, 0.25), 60
    )
    assert (covered > 0.9).all()


def test_shares_add_up_to_one_and_lie_within_their_intervals():
    rng = np.random.default_rng(7)
    tables = [
        statistics.nested_shares(nested_scores(rng)),
        statistics.crossed_shares(crossed_scores(rng, (1, 2, 3, 1))),
    ]
    for table in tables:
        assert table["share"].sum() == pytest.approx(1)
        assert ((table["low"] < table["share"]) & (table["share"] < table["high"])).all()


def test_two_seeds_have_shares_but_no_interval():
    table = statistics.nested_shares(nested_scores(np.random.default_rng(8), seeds=2))
    assert table["share"].notna().all()
    assert table[["low", "high"]].isna().all(axis=None)


def test_scores_that_never_vary_have_no_shares():
    scores = xr.DataArray(np.ones((4, 3, 2, 2)), dims=DIMS)
    assert statistics.nested_shares(scores)["share"].isna().all()


def test_one_checkpoint_or_one_level_cannot_be_decomposed():
    rng = np.random.default_rng(9)
    with pytest.raises(ValueError, match="two checkpoints"):
        statistics.nested_components(nested_scores(rng, checkpoints=1))
    with pytest.raises(ValueError, match="two levels of order"):
        statistics.crossed_components(crossed_scores(rng, (1, 1, 1, 1), levels=(4, 1)))


def test_runs_become_a_grid_whatever_their_order_and_a_hole_is_an_error():
    grid = crossed_scores(np.random.default_rng(10), (1, 1, 1, 1), levels=(2, 3))
    cells = [(1, 2), (0, 0), (1, 0), (0, 2), (0, 1), (1, 1)]
    stacked = xr.concat([grid.isel(init=i, order=o) for i, o in cells], dim="seed").assign_coords(
        seed=[f"{i}x{o}" for i, o in cells],
        init=("seed", [i for i, _ in cells]),
        order=("seed", [o for _, o in cells]),
    )
    back = statistics.to_grid(stacked).transpose(*grid.dims)
    np.testing.assert_array_equal(back, grid)
    with pytest.raises(ValueError, match="5 runs are no full grid"):
        statistics.to_grid(stacked.isel(seed=slice(5)))
