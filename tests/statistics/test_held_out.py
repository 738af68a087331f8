"""Choices are judged on seeds that did not choose."""

from itertools import combinations

import numpy as np
import pytest
import xarray as xr

from bayestda.statistics import chosen_on_other_half

SEEDS, N, M = 5, 4, 6


def scores(seed, signal=None, noise=1.0):
    values = noise * np.random.default_rng(seed).normal(size=(SEEDS, N, M))
    values = values if signal is None else values + signal
    return xr.DataArray(values, {"seed": range(SEEDS)}, ("seed", "train", "test"))


def test_every_split_is_judged_by_numpy():
    truth, candidates = scores(0), {0.1: scores(1), 0.3: scores(2), 1.0: scores(3)}
    table = chosen_on_other_half(candidates, truth)

    def pearson(name, seeds):
        maps = [a.values[list(seeds)].mean(0).ravel() for a in (candidates[name], truth)]
        return np.corrcoef(*maps)[0, 1]

    for row, half in zip(table.itertuples(), combinations(range(SEEDS), 2), strict=True):
        other = [seed for seed in range(SEEDS) if seed not in half]
        best = max(candidates, key=lambda name, half=half: pearson(name, half))
        assert row.chosen == best
        assert row.value == pytest.approx(pearson(best, other), abs=1e-12)
    assert table["chosen"].nunique() > 1


def test_choosing_among_noise_gains_nothing_on_other_seeds():
    truth = scores(0)
    candidates = {number: scores(number) for number in range(1, 60)}
    values = chosen_on_other_half(candidates, truth)["value"]
    looked = max(np.corrcoef(c.mean("seed").values.ravel(), truth.mean("seed").values.ravel())[0, 1]
                 for c in candidates.values())  # fmt: skip
    assert looked > 0.4 > abs(values.mean()) + 0.2


def test_order_of_dims_does_not_matter_but_seeds_do():
    signal = np.random.default_rng(9).normal(size=(N, M))
    truth, own = scores(0, signal, 0.1), scores(1, signal, 0.1)
    table = chosen_on_other_half({"one": own.transpose("test", "train", "seed")}, truth)
    assert (table["value"] > 0.9).all()
    with pytest.raises(ValueError):
        chosen_on_other_half({"one": own.assign_coords(seed=range(1, SEEDS + 1))}, truth)
    with pytest.raises(ValueError, match="two seeds or more"):
        chosen_on_other_half({"one": own.isel(seed=[0])}, truth.isel(seed=[0]))
