"""Split-half reliability, ceilings and agreement by plain loops, on planted signals."""

from itertools import combinations

import numpy as np
import pytest
import xarray as xr

from bayestda import statistics
from bayestda.statistics.reliability import halves


def scores(values, seeds=None) -> xr.DataArray:
    seeds = np.arange(len(values)) if seeds is None else seeds
    return xr.DataArray(values, dims=("seed", "train", "test"), coords={"seed": seeds})


def values(table) -> dict[str, float]:
    return table.set_index("quantity")["value"].to_dict()


def corr(a, b) -> float:
    return np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]


def noisy(rng, num_seeds=10, noise=1.0, shape=(20, 30), own=0.0):
    """Runs of two methods that share signal .8 and, of a model, its noise by ``own``."""
    signal = rng.normal(size=shape)
    other = 0.8 * signal + 0.6 * rng.normal(size=shape)
    first = noise * rng.normal(size=(num_seeds, *shape))
    second = own * first + noise * np.sqrt(1 - own**2) * rng.normal(size=(num_seeds, *shape))
    return scores(signal + first), scores(other + second)


def test_split_half_is_the_mean_correlation_over_all_balanced_halves():
    runs, _ = noisy(np.random.default_rng(0), num_seeds=6, shape=(4, 5))
    expected = [
        corr(
            runs.values[list(first)].mean(0),
            runs.values[[s for s in range(6) if s not in first]].mean(0),
        )
        for first in combinations(range(6), 3)
    ]
    assert values(statistics.reliability(runs))["split_half"] == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(("num_seeds", "num_splits"), [(2, 1), (3, 3), (10, 126), (20, 500)])
def test_halves_are_balanced_and_disjoint(num_seeds, num_splits):
    first, second = halves(num_seeds)
    assert first.shape == second.shape == (num_splits, num_seeds)
    assert ((first > 0).sum(1) == num_seeds // 2).all()
    assert ((second > 0).sum(1) == num_seeds // 2).all()
    assert not ((first > 0) & (second > 0)).any()
    np.testing.assert_allclose(first.sum(1), 1)
    together = {frozenset((tuple(a > 0), tuple(b > 0))) for a, b in zip(first, second, strict=True)}
    # Random splits (of 20 seeds) may repeat, all splits may not.
    assert len(together) == num_splits or (num_seeds == 20 and len(together) > 490)


@pytest.mark.parametrize("num_seeds", [5, 10])
def test_reliability_is_the_share_of_signal_in_the_mean_map(num_seeds):
    runs, _ = noisy(np.random.default_rng(1), num_seeds, noise=2.0, shape=(60, 80))
    found = values(statistics.reliability(runs))
    expected = 1 / (1 + 4 / num_seeds)
    assert found["reliability"] == pytest.approx(expected, abs=0.03)
    assert found["ceiling"] == pytest.approx(np.sqrt(found["reliability"]))


def test_the_ceiling_is_the_correlation_with_the_noise_free_map():
    rng = np.random.default_rng(2)
    signal = rng.normal(size=(60, 80))
    runs = scores(signal + 2 * rng.normal(size=(10, 60, 80)))
    ceiling = values(statistics.reliability(runs))["ceiling"]
    assert corr(runs.mean("seed"), signal) == pytest.approx(ceiling, abs=0.02)


def test_corrections_find_the_noise_free_correlation_when_noise_is_independent():
    a, b = noisy(np.random.default_rng(3), noise=2.0, shape=(60, 80))
    found = values(statistics.agreement(a, b))
    assert found["correlation"] < 0.65
    assert found["corrected"] == pytest.approx(0.8, abs=0.04)
    assert found["cross_half_corrected"] == pytest.approx(0.8, abs=0.04)


def test_only_the_cross_half_correction_is_right_when_methods_share_their_models_noise():
    a, b = noisy(np.random.default_rng(4), noise=3.0, shape=(60, 80), own=1.0)
    found = values(statistics.agreement(a, b))
    assert found["corrected"] > 0.85
    assert found["cross_half_corrected"] == pytest.approx(0.8, abs=0.04)


def test_same_and_cross_seed_are_correlations_of_single_runs():
    a, b = noisy(np.random.default_rng(5), num_seeds=4, shape=(4, 5), own=0.7)
    found = values(statistics.agreement(a, b))
    table = np.array([[corr(x, y) for y in b.values] for x in a.values])
    same = np.trace(table) / 4
    cross = (table.sum() - np.trace(table)) / 12
    assert found["same_seed"] == pytest.approx(same)
    assert found["cross_seed"] == pytest.approx(cross)
    assert found["same_minus_cross"] == pytest.approx(same - cross)
    assert found["correlation"] == pytest.approx(corr(a.mean("seed"), b.mean("seed")))


@pytest.mark.parametrize(("own", "explains"), [(0.0, False), (0.8, True)])
def test_same_minus_cross_tells_whether_a_score_explains_its_own_model(own, explains):
    a, b = noisy(np.random.default_rng(6), shape=(30, 40), own=own)
    row = statistics.agreement(a, b).set_index("quantity").loc["same_minus_cross"]
    assert (row["low"] > 0) == explains
    assert row["low"] < row["value"] < row["high"]


def test_every_interval_holds_its_value():
    a, b = noisy(np.random.default_rng(7))
    for table in (statistics.reliability(a), statistics.agreement(a, b)):
        assert (table["low"] < table["value"]).all() and (table["value"] < table["high"]).all()


def test_intervals_cover_the_expected_value_about_as_often_as_they_say():
    rng = np.random.default_rng(8)
    tables = []
    for _ in range(100):
        signal = np.random.default_rng(0)
        shape = (5, 6)
        base = signal.normal(size=shape)
        a = base + rng.normal(size=(8, *shape))
        b = base + signal.normal(size=shape) + rng.normal(size=(8, *shape))
        tables.append(statistics.agreement(scores(a), scores(b)).set_index("quantity"))
    for quantity in ("correlation", "cross_half", "same_minus_cross"):
        rows = [table.loc[quantity] for table in tables]
        truth = np.mean([row["value"] for row in rows])
        assert np.mean([row["low"] <= truth <= row["high"] for row in rows]) > 0.87


def test_two_seeds_have_values_but_no_interval():
    a, b = noisy(np.random.default_rng(9), num_seeds=2)
    for table in (statistics.reliability(a), statistics.agreement(a, b)):
        assert table["value"].notna().all()
        assert table[["low", "high"]].isna().all(axis=None)


def test_constant_maps_have_no_reliability():
    table = statistics.reliability(scores(np.full((4, 3, 5), 0.1)))
    assert table["value"].isna().all()


def test_different_seeds_or_a_single_seed_are_errors():
    a, b = noisy(np.random.default_rng(10), num_seeds=4)
    with pytest.raises(ValueError):
        statistics.agreement(a, scores(b.values, seeds=[0, 1, 2, 9]))
    with pytest.raises(ValueError, match="at least two"):
        statistics.reliability(a.isel(seed=[0]))


def labelled(values_SNM, train_label, test_label):
    labels = {"train_label": ("train", train_label), "test_label": ("test", test_label)}
    return xr.DataArray(values_SNM, dims=("seed", "train", "test"), coords=labels)


def test_within_labels_takes_off_the_mean_of_the_pairs_with_the_same_two_labels():
    rng = np.random.default_rng(0)
    train_label, test_label = rng.integers(0, 3, 11), rng.integers(1, 4, 9)
    values_SNM = rng.normal(size=(2, 11, 9))
    expected_SNM = values_SNM.copy()
    for seed, n, m in np.ndindex(values_SNM.shape):
        same = np.ix_(train_label == train_label[n], test_label == test_label[m])
        expected_SNM[seed, n, m] -= values_SNM[seed][same].mean()
    found = statistics.within_labels(labelled(values_SNM, train_label, test_label))
    np.testing.assert_allclose(found, expected_SNM, atol=1e-14)


def test_scores_that_only_tell_labels_apart_have_a_label_share_of_one():
    rng = np.random.default_rng(1)
    train_label, test_label = np.repeat([0, 1], 20), np.repeat([0, 1], 30)
    by_label = (train_label[:, None] == test_label) * 1.0
    noise_SNM = rng.normal(size=(6, 40, 60))
    share = {
        name: statistics.reliability(labelled(values, train_label, test_label))
        .set_index("quantity")
        .loc["label_share", "value"]
        for name, values in {"labels": by_label + 0 * noise_SNM, "noise": noise_SNM}.items()
    }
    assert share["labels"] == pytest.approx(1)
    assert share["noise"] < 0.01


def test_scores_without_labels_have_no_label_share():
    scores = xr.DataArray(
        np.random.default_rng(2).normal(size=(4, 5, 6)), dims=("seed", "train", "test")
    )
    assert "label_share" not in set(statistics.reliability(scores)["quantity"])
    with pytest.raises(ValueError, match="train_label"):
        statistics.within_labels(scores)
