"""Numbers of a page: what is packed is what the statistics say, to the promised precision."""

import base64
import zlib

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from bayestda.page import encoding
from bayestda.page.pairs import most_extreme, pair_table, shortlist
from bayestda.page.plan import BASE64, PAIR_BYTES, SAMPLE_BYTES, Sizes, plan

SEEDS, CHECKPOINTS, TRAIN, TEST = 10, 3, 7, 5
STOPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


@pytest.fixture
def scores():
    """Scores of very different sizes, a tenth of them with an effect."""
    rng = np.random.default_rng(0)
    effect_NM = rng.normal(size=(TRAIN, TEST)) * 10.0 ** -rng.integers(0, 4, (TRAIN, TEST))
    noise = rng.normal(size=(SEEDS, CHECKPOINTS, TRAIN, TEST))
    return xr.DataArray(effect_NM + 0.3 * noise, dims=("seed", "checkpoint", "train", "test"))


class Reader:
    """Takes arrays from a packed block, as the page's script does."""

    def __init__(self, packed):
        self.content, self.place = zlib.decompress(base64.b64decode(packed)), 0

    def take(self, kind, *shape):
        count = int(np.prod(shape))
        found = np.frombuffer(self.content, kind, count, self.place).reshape(shape)
        self.place += found.nbytes
        return found


def brute_force(scores):
    runs = scores.mean("checkpoint").transpose("seed", "test", "train").values
    mean = runs.mean(0)
    _, high = stats.t.interval(0.95, SEEDS - 1, loc=mean, scale=stats.sem(runs, axis=0))
    p = stats.ttest_1samp(runs, 0).pvalue
    same = np.maximum((runs > 0).mean(0), (runs < 0).mean(0))
    return mean, high - mean, stats.false_discovery_control(p.ravel()).reshape(p.shape), same


def test_statistics_of_pairs_are_those_of_scipy(scores):
    table = pair_table(scores)
    assert table["mean"].dims == ("test", "train")
    names = ("mean", "half_width", "q", "sign_agreement")
    for name, expected in zip(names, brute_force(scores), strict=True):
        np.testing.assert_allclose(table[name], expected, rtol=1e-10, err_msg=name)


def test_a_single_seed_has_a_mean_and_no_test(scores):
    table = pair_table(scores.isel(seed=[3]))
    np.testing.assert_allclose(table["mean"].T, scores[3].mean("checkpoint"))
    assert table[["half_width", "q", "sign_agreement"]].isnull().all().to_array().all()
    reader = Reader(encoding.encode_pairs(table))
    reader.take("<f4", 2 * TEST), reader.take("<i2", TEST, TRAIN)
    assert (reader.take("<u2", 2, TEST, TRAIN) == encoding.UNKNOWN_2).all()
    assert (reader.take("u1", TEST, TRAIN) == encoding.UNKNOWN_1).all()


def test_packed_pairs_keep_their_numbers(scores):
    mean, half, q, same = brute_force(scores)
    reader = Reader(encoding.encode_pairs(pair_table(scores)))
    mean_unit, half_unit = reader.take("<f4", TEST, 1), reader.take("<f4", TEST, 1)
    packed_mean, packed_half = reader.take("<i2", TEST, TRAIN), reader.take("<u2", TEST, TRAIN)
    packed_q, packed_same = reader.take("<u2", TEST, TRAIN), reader.take("u1", TEST, TRAIN)
    assert reader.place == len(reader.content)
    assert (np.abs(packed_mean * mean_unit - mean) <= 0.51 * mean_unit).all()
    assert (np.abs(packed_half * half_unit - half) <= 0.51 * half_unit).all()
    assert (mean_unit.ravel() < 4e-5 * np.abs(mean).max(1)).all()
    np.testing.assert_allclose(packed_same / encoding.AGREEMENT_STEPS, same)
    for stop in STOPS:  # of the page's slider
        np.testing.assert_array_equal(packed_q / encoding.Q_STEPS < stop, q < stop)


def test_packed_samples_are_within_a_level_of_the_scores(scores):
    mean = pair_table(scores)["mean"]
    kept_MK = most_extreme([pair_table(scores)], 4)
    reader = Reader(encoding.encode_samples(scores, mean, kept_MK))
    unit, steps = reader.take("<f4", TEST, 1), reader.take("<u2", TEST, 4)
    levels = reader.take("i1", SEEDS, CHECKPOINTS, TEST, 4)
    assert reader.place == len(reader.content)
    expected = scores.transpose("seed", "checkpoint", "test", "train").values
    expected = np.stack([expected[:, :, m, kept_MK[m]] for m in range(TEST)], axis=2)
    mean_MK = np.take_along_axis(mean.values, kept_MK, axis=1)
    found = mean_MK + unit * steps / encoding.LEVELS * levels
    largest_MK = np.abs(expected - mean_MK).max((0, 1))
    assert (np.abs(found - expected) <= 0.51 * (largest_MK + unit) / encoding.LEVELS).all()
    assert np.abs(levels).max() == encoding.LEVELS


def test_constant_scores_are_packed_as_they_are():
    constant = xr.full_like(
        xr.DataArray(np.zeros((3, 2, 4, 2)), dims=("seed", "checkpoint", "train", "test")), 2.5
    )
    table = pair_table(constant)
    kept_MK = most_extreme([table], 2)
    reader = Reader(encoding.encode_samples(constant, table["mean"], kept_MK))
    assert not reader.take("<f4", 2).any() and not reader.take("<u2", 4).any()
    assert not reader.take("i1", 3, 2, 2, 2).any()


def test_most_extreme_examples_are_so_by_some_method():
    sizes = np.array([[9.0, 1, 0, 0, 5], [0, 1, 9, -2, 0]])
    tables = [xr.Dataset({"mean": (("test", "train"), sizes[[method]])}) for method in (0, 1)]
    assert most_extreme(tables, 2).tolist() == [[0, 2]]
    assert most_extreme(tables, 4).tolist() == [[0, 2, 3, 4]]
    assert most_extreme(tables, 5).tolist() == [[0, 1, 2, 3, 4]]


def test_everything_is_shown_where_there_is_room():
    found = plan(Sizes(30, 900, 5, 250), 9e6)
    assert found.tests.tolist() == list(range(900)) and found.num_sampled == 30


@pytest.mark.parametrize("sizes", [(150, 900, 5, 250), (500, 500, 5, 250), (30, 900, 20, 1000)])
@pytest.mark.parametrize("budget", [3e6, 9e6])
def test_what_does_not_fit_is_left_out_evenly(sizes, budget):
    num_train, num_test, pairs, samples = sizes
    found = plan(Sizes(num_train, num_test, pairs, samples), budget)
    gaps = np.diff(found.tests)
    assert found.tests[0] == 0 and gaps.min() >= 1 and gaps.max() - gaps.min() <= 1
    assert 1 <= found.num_sampled < num_train
    of_test = num_train * pairs * PAIR_BYTES + found.num_sampled * samples * SAMPLE_BYTES
    assert 0.75 * budget < len(found.tests) * of_test * BASE64 <= budget


@pytest.mark.parametrize("train_bytes", [20, 1500])
def test_of_many_training_examples_so_many_stay_that_test_examples_have_room(train_bytes):
    sizes = Sizes(50_000, 400, 2, 40, train_bytes=train_bytes, test_bytes=1500)
    found = plan(sizes, 9e6)
    of_test = found.num_train * sizes.pair_bytes + sizes.test_bytes
    of_test += found.num_sampled * sizes.sample_bytes
    assert 1000 < found.num_train < 50_000 and len(found.tests) >= 20
    assert found.num_train * train_bytes + len(found.tests) * of_test <= 9e6


def test_the_shortlist_has_what_is_extreme_for_some_test_example():
    sizes = np.array([[9.0, 1, 0, 0, 5], [0, 1, -9, 2, 0]])
    table = xr.Dataset({"mean": (("test", "train"), sizes)})
    assert shortlist([table], 2).tolist() == [0, 2]
    assert shortlist([table], 4).tolist() == [0, 2, 3, 4]
