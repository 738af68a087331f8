"""Every column of the reliability of pairs is its plain definition."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from bayestda import statistics
from bayestda.statistics.significance import _smallest_effects


def scores(seeds=6, checkpoints=3, train=4, test=5, rng_seed=0, shift=0.3) -> xr.DataArray:
    shape = (seeds, checkpoints, train, test)
    return xr.DataArray(
        np.random.default_rng(rng_seed).normal(shift, 1, shape).astype(np.float32),
        dims=("seed", "checkpoint", "train", "test"),
        coords={"seed": np.arange(seeds) * 3, "train": np.arange(train) * 7},
    )


def test_every_column_is_its_plain_definition_pair_by_pair():
    values = scores()
    pairs = statistics.pair_reliability(values.transpose("test", "seed", "train", "checkpoint"))
    means = np.asarray(values, dtype=np.float64).mean(1)
    p = np.asarray(stats.ttest_1samp(means, 0).pvalue)
    for n, m in np.ndindex(4, 5):
        runs, pair = means[:, n, m], pairs.isel(train=n, test=m)
        assert float(pair["mean"]) == pytest.approx(runs.mean())
        assert float(pair["std"]) == pytest.approx(runs.std(ddof=1))
        assert float(pair["t"]) == pytest.approx(stats.ttest_1samp(runs, 0).statistic)
        assert float(pair["p"]) == pytest.approx(p[n, m])
        larger = p[p >= p[n, m]]
        steps = [value * p.size / (p <= value).sum() for value in larger]
        assert float(pair["q"]) == pytest.approx(min(1, *steps))
        positive = int((runs > 0).sum())
        agreeing = max(positive, len(runs) - positive) / len(runs)
        assert float(pair["sign_agreement"]) == pytest.approx(agreeing)
    expected = statistics.seeds_needed(statistics.signal_to_noise(values))
    np.testing.assert_array_equal(pairs["seeds_needed"], expected)
    assert all(variable.dims == ("train", "test") for variable in pairs.values())
    assert pairs["train"].values.tolist() == [0, 7, 14, 21]


@pytest.mark.parametrize(("level", "power"), [(0.01, 0.9), (0.05, 0.5), (0.2, 0.95)])
def test_seeds_needed_is_the_smallest_number_with_the_stated_power(level, power):
    pairs = statistics.pair_reliability(scores(shift=1), level=level, power=power)
    ratios = np.ravel(np.abs(pairs["mean"] / pairs["std"]))
    found = np.ravel(pairs["seeds_needed"])
    kept = (found > 2) & (found < 200)
    assert kept.sum() > 5
    for ratio, needed in zip(ratios[kept], found[kept], strict=True):
        number = np.array([needed - 1, needed])
        critical = stats.t.isf(level / 2, number - 1)
        too_few, enough = stats.nct.sf(critical, number - 1, ratio * np.sqrt(number))
        assert too_few < power <= enough


def test_levels_corrected_for_many_pairs_have_a_table_too():
    smallest = _smallest_effects(1e-6, 0.8)
    assert np.isfinite(smallest).all() and (np.diff(smallest) < 0).all()
    # One degree of freedom: T is about (effect sqrt 2) / |z|, larger than the critical value.
    expected = stats.cauchy.isf(5e-7) * stats.norm.ppf(0.9) / np.sqrt(2)
    assert smallest[0] == pytest.approx(expected, rel=1e-3)


def test_attributes_state_seeds_hypothesis_and_correction():
    attrs = statistics.pair_reliability(scores(), level=0.01, power=0.9).attrs
    assert attrs["num_seeds"] == 6
    assert "zero" in attrs["null_hypothesis"] and "Benjamini" in attrs["correction"]
    assert "0.01" in attrs["seeds_needed"] and "0.9" in attrs["seeds_needed"]


def test_noise_is_not_found_reliable_and_agrees_in_sign_as_stated():
    noise = scores(seeds=10, checkpoints=1, train=100, test=100, shift=0)
    pairs = statistics.pair_reliability(noise)
    assert float((pairs["p"] < 0.05).mean()) == pytest.approx(0.05, abs=0.01)
    assert float((pairs["q"] < 0.05).mean()) < 1e-3
    expected = pairs.attrs["sign_agreement_of_noise"]
    assert float(pairs["sign_agreement"].mean()) == pytest.approx(expected, abs=0.005)


def test_one_large_run_does_not_outvote_the_others():
    values = xr.DataArray(
        np.array([9.0, -1, -1, -1])[:, None, None], dims=("seed", "train", "test")
    )
    assert statistics.pair_reliability(values)["sign_agreement"].item() == 0.75


def test_runs_that_are_all_zero_are_no_effect():
    pairs = statistics.pair_reliability(scores() * 0)
    assert (pairs["p"] == 1).all() and (pairs["sign_agreement"] == 0).all()
    assert np.isinf(pairs["seeds_needed"]).all()


def not_finite() -> xr.DataArray:
    values = scores()
    values[0, 0, 0, 0] = np.nan
    return values


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (scores(seeds=1), "at least 2 .* train with further seeds"),
        (scores().isel(seed=0, drop=True), r"add 'seed' with .*expand_dims\(seed=\[0\]\)"),
        (scores().rename(test="query"), "need the dims .seed, train, test."),
        (scores().expand_dims("layer"), r"'layer' beyond .*\.isel\(layer=0\)"),
        (not_finite(), "1 of 360 values .* not finite"),
        (scores().assign_coords(seed=[0] * 6), "two seeds of one name"),
        (scores().isel(test=[]), "empty"),
        (scores() > 0, "astype"),
        (scores().values, "DataArray .* got ndarray"),
        (xr.Dataset({"score": scores()}), "variable of a Dataset"),
    ],
)
def test_wrong_arrays_of_scores_are_refused_with_the_remedy(wrong, says):
    with pytest.raises(ValueError, match=says):
        statistics.pair_reliability(wrong)


@pytest.mark.parametrize(("level", "power"), [(0, 0.8), (0.05, 1), (0.5, 0.4)])
def test_impossible_levels_and_powers_are_refused(level, power):
    with pytest.raises(ValueError, match="between 0 and 1"):
        statistics.pair_reliability(scores(), level=level, power=power)
