"""What must hold for every estimator, whatever the network and the data."""

import resource
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import bayestda as tda
from bayestda.gradients.shards import Scratch

N, M = 9, 4
SETTINGS = {
    "grad_dot": {},
    "grad_cos": {},
    "influence": {"damping": 0.2},
    "influence_hessian": {"damping": 5.0},
    "influence_cg": {"damping": 0.2, "tolerance": 1e-12},
    "influence_lissa": {"damping": 2.0, "scale": 20.0, "steps": 30, "batch_size": N},
    "influence_low_rank": {"damping": 0.2, "rank": 20},
    "unrolled": {"rate": 0.05, "steps": 30},
    "flow": {"horizon": 2.0},
}
each_method = pytest.mark.parametrize("method", SETTINGS)
few = settings(max_examples=5, deadline=None)
seeds = st.integers(0, 2**31)


def network(seed, dtype=torch.float64):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3)
        ).to(dtype)


def data(count, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 1, 3, 3, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 3, (count,), generator=generator)


def scores(own, train, test, method, objective=None, **changed):
    objective = objective or tda.Classification()
    found = tda.attribute(
        tda.Posterior.of_networks({0: [own]}), objective, train, test,
        method=method, **SETTINGS[method], **changed,
    )  # fmt: skip
    return found.values.reshape(found.sizes["train"], found.sizes["test"])


@each_method
@few
@given(seed=seeds)
def test_the_order_of_examples_does_not_matter(method, seed):
    own, (x, y), (xt, yt) = network(seed), data(N, seed), data(M, seed + 1)
    rows = torch.randperm(N, generator=torch.Generator().manual_seed(seed))
    columns = torch.randperm(M, generator=torch.Generator().manual_seed(seed))
    plain = scores(own, (x, y), (xt, yt), method)
    shuffled = scores(own, (x[rows], y[rows]), (xt[columns], yt[columns]), method)
    np.testing.assert_allclose(shuffled, plain[rows][:, columns], rtol=1e-7, atol=1e-9)


@each_method
@few
@given(seed=seeds, memory_gb=st.sampled_from([1e-7, 1e-5, 3e-5]))
def test_memory_and_so_the_size_of_blocks_does_not_matter(method, seed, memory_gb):
    own, train, test = network(seed), data(N, seed), data(M, seed + 1)
    plain = scores(own, train, test, method)
    frugal = scores(own, train, test, method, memory_gb=memory_gb)
    np.testing.assert_allclose(frugal, plain, rtol=1e-7, atol=1e-9)
    with TemporaryDirectory() as folder:
        spilled = scores(own, train, test, method, memory_gb=memory_gb, scratch=folder)
        assert not list(Path(folder).iterdir())
    np.testing.assert_allclose(spilled, frugal, rtol=1e-10, atol=1e-14)


@each_method
@few
@given(seed=seeds)
def test_minus_the_measurement_is_minus_the_score(method, seed):
    own, train, test = network(seed), data(N, seed), data(M, seed + 1)
    minus = tda.Classification(measurement=lambda f, y: -tda.Classification().loss(f, y))
    plain = scores(own, train, test, method)
    np.testing.assert_allclose(
        scores(own, train, test, method, minus), -plain, rtol=1e-7, atol=1e-10
    )


@each_method
@few
@given(seed=seeds)
def test_float32_is_close_to_float64(method, seed):
    own, (x, y), (xt, yt) = network(seed), data(N, seed), data(M, seed + 1)
    single = network(seed).float()
    wide = scores(own, (x, y), (xt, yt), method)
    tolerance = {"tolerance": 1e-5} if method == "influence_cg" else {}
    narrow = tda.attribute(
        tda.Posterior.of_networks({0: [single]}), tda.Classification(),
        (x.float(), y), (xt.float(), yt), method=method, **SETTINGS[method] | tolerance,
    )  # fmt: skip
    assert narrow.dtype == np.float32
    size = np.abs(wide).max()
    np.testing.assert_allclose(narrow.values[0, 0], wide, rtol=1e-2, atol=1e-3 * size)


@few
@given(seed=seeds)
def test_grad_dot_of_all_parameters_is_the_sum_over_parts(seed):
    own, train, test = network(seed), data(N, seed), data(M, seed + 1)
    parts = [
        scores(own, train, test, "grad_dot", parameters=part) for part in ("0.*", "3.*", "5.*")
    ]
    np.testing.assert_allclose(sum(parts), scores(own, train, test, "grad_dot"), rtol=1e-9)


@few
@given(seed=seeds)
def test_large_damping_turns_influence_into_grad_dot(seed):
    own, train, test = network(seed), data(N, seed), data(M, seed + 1)
    damped = tda.attribute(
        tda.Posterior.of_networks({0: [own]}), tda.Classification(), train, test, damping=1e7
    )
    expected = scores(own, train, test, "grad_dot") / 1e7
    np.testing.assert_allclose(damped.values[0, 0], expected, rtol=1e-4, atol=1e-14)


@each_method
@few
@given(seed=seeds)
def test_a_doubled_example_counts_twice_in_a_group(method, seed):
    own, (x, y), test = network(seed), data(N, seed), data(M, seed + 1)
    train = (torch.cat([x, x[:1]]), torch.cat([y, y[:1]]))
    found = scores(own, train, test, method)
    np.testing.assert_allclose(found[0], found[-1], rtol=1e-6, atol=1e-9)


def test_the_gpu_gives_the_scores_of_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    own, train, test = network(1), data(N, 1), data(M, 2)
    for method in SETTINGS:
        here = scores(own, train, test, method)
        there = scores(network(1).cuda(), train, test, method)
        np.testing.assert_allclose(there, here, rtol=1e-6, atol=1e-9)


def test_shards_are_written_once_and_read_again(tmp_path, monkeypatch):
    captured = []
    plain = tda.gradients.sample.capture

    def counting(network, objective, x_B, *others, **more):
        captured.append(len(x_B))
        return plain(network, objective, x_B, *others, **more)

    monkeypatch.setattr(tda.gradients.sample, "capture", counting)
    own, train, test = network(1), data(N, 1), data(M, 2)
    scores(own, train, test, "grad_cos", memory_gb=1e-6, scratch=tmp_path)
    assert sum(captured) == N + M + 2  # and the first example of both, to measure it


def test_a_scratch_that_is_full_is_one_sentence(tmp_path):
    shard, limits = {"x": torch.zeros(10_000)}, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(tda.errors.UserError, match="free some space, give a folder with more"):
            Scratch(tmp_path).tensors("one", lambda: shard)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_shards_come_back_to_the_device_that_they_are_of(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(tda.gradients.shards, "save_file", lambda _tensors, path: path.touch())
    monkeypatch.setattr(
        tda.gradients.shards, "load_file", lambda _path, **where: read.append(where)
    )
    with FakeTensorMode():
        shard = {"x": torch.zeros(3, device="cuda:0")}
        folder = Scratch(tmp_path)
        for _ in range(2):
            folder.tensors("one", lambda: shard)
    assert read == [{"device": "cuda:0"}]


def test_scratch_must_be_a_folder(tmp_path):
    with pytest.raises(tda.errors.UserError, match="must be a folder"):
        scores(network(1), data(N, 1), data(M, 2), "grad_dot", scratch=tmp_path / "none")
