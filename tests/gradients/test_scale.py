"""Neither gradients nor scores have to fit into memory; what would have to is refused."""

import errno
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import bayestda as tda
from bayestda.errors import UserError
from bayestda.files import atomic
from bayestda.gradients import sample
from bayestda.model.measurements import margin

N, M = 150, 70
SETTINGS = {
    "grad_dot": {},
    "grad_cos": {},
    "tracin": {},
    "influence": {"damping": 0.1},
    "influence_hessian": {"damping": 5.0},
    "influence_cg": {"damping": 0.1, "tolerance": 1e-9},
    "influence_lissa": {"damping": 2.0, "scale": 20.0, "steps": 3},
    "influence_low_rank": {"damping": 0.1, "rank": 5},
    "influence_ekfac": {"damping": 0.1},
    "influence_projected": {"damping": 0.1, "rank": 3},
    "datainf": {},
    "trak": {"projection": 20},
    "unrolled": {"rate": 0.1, "steps": 10},
    "flow": {},
    "representer": {"weight_decay": 0.1},
    "generalised": {"damping": 0.1},
    "near_stationary": {"damping": 0.1},
    "proposition_1": {"damping": 5.0, "tolerance": 1e-9},
}
RECORDED = {"influence_preconditioned"}  # needs a recorded training: tests/training/test_horizon.py
each_method = pytest.mark.parametrize("method", SETTINGS)


def data(count, seed):
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return x.double(), torch.arange(count) % 3


def network(seed, width=4):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, 3)).double()


def posterior():
    networks = {5: [network(0), network(1)], 3: [network(2), network(3)]}
    return tda.Posterior.of_networks(networks, learning_rates=[0.1, 0.2], horizons=[1.0, 2.0])


def test_every_method_is_tested_here():
    assert set(SETTINGS) | RECORDED == {
        name for name, entry in tda.METHODS.items() if not entry.retrains
    }


@each_method
def test_scores_in_a_file_are_those_in_memory(method, tmp_path):
    train, test, settings = data(N, 1), data(M, 2), SETTINGS[method]
    whole = tda.attribute(posterior(), tda.Classification(), train, test, method=method, **settings)
    path = tmp_path / "scores.nc"
    streamed = tda.attribute(
        posterior(), tda.Classification(), train, test, method=method, output=path,
        memory_gb=1e-4, scratch=tmp_path, **settings,
    )  # fmt: skip
    assert [file.name for file in tmp_path.iterdir()] == ["scores.nc"]
    with xr.open_dataarray(path) as read:
        assert streamed.dims == read.dims == whole.dims
        assert whole.attrs.items() <= read.attrs.items() and "version_bayestda" in read.attrs
        assert "commit" not in read.attrs  # of whatever repository stands around
        assert set(read.coords) == set(whole.coords)
        np.testing.assert_allclose(read.values, whole.values, rtol=1e-4, atol=1e-9)
    streamed.close()


@each_method
def test_self_influence_is_the_diagonal_in_little_memory_too(method):
    train, settings = data(M, 1), SETTINGS[method]
    whole = tda.attribute(
        posterior(), tda.Classification(), train, train, method=method, **settings
    )
    own = tda.self_influence(
        posterior(), tda.Classification(margin), train, method=method, memory_gb=1e-4, **settings
    )
    diagonal = np.diagonal(whole.values, axis1=-2, axis2=-1)
    np.testing.assert_allclose(own.values, diagonal, rtol=1e-4, atol=1e-9)
    assert own.dims == (*whole.dims[:-2], "train")


def test_self_influence_scores_few_other_pairs(monkeypatch):
    scored = []
    plain = tda.scores.writers.Diagonal.write

    def counting(self, place, rows, columns, block):
        scored.append(block.size)
        plain(self, place, rows, columns, block)

    monkeypatch.setattr(tda.scores.writers.Diagonal, "write", counting)
    one = tda.Posterior.of_networks({0: [network(0)]})
    tda.self_influence(one, tda.Classification(), data(1000, 1), method="grad_dot")
    assert sum(scored) <= 1000 * tda.gradients.factored.MAX_BLOCK


@pytest.mark.parametrize("room", [1e9, 2e5])
def test_gradients_are_taken_once_and_written_only_to_be_read_again(room, tmp_path, monkeypatch):
    taken, written = [], []
    capture, save = sample.capture, tda.gradients.shards.save_file

    def counting(*args, **kwargs):
        taken.append(len(args[2]))
        return capture(*args, **kwargs)

    monkeypatch.setattr(sample, "capture", counting)
    monkeypatch.setattr(
        tda.gradients.shards, "save_file", lambda *a: written.append(a[1]) or save(*a)
    )
    one = tda.Posterior.of_networks({0: [network(0)]})
    tda.attribute(
        one, tda.Classification(), data(5000, 1), data(5, 2), method="grad_dot",
        memory_gb=room / 1e9, scratch=tmp_path,
    )  # fmt: skip
    assert sum(taken) == 5000 + 5 + 2  # and one of each to know their size
    assert not written


def test_groups_of_scores_in_a_file_are_those_in_memory(tmp_path):
    settings = {"method": "grad_dot"}
    parts = (posterior(), tda.Classification(), data(N, 1), data(M, 2))
    groups = np.random.default_rng(0).random((3, N)) < 0.2
    whole = tda.group_scores(tda.attribute(*parts, **settings), groups)
    with tda.attribute(*parts, output=tmp_path / "scores.nc", **settings) as streamed:
        xr.testing.assert_allclose(tda.group_scores(streamed, groups), whole)


def test_data_that_cannot_be_read_are_not_a_file_that_cannot_be_written(tmp_path):
    class Broken(torch.utils.data.Dataset):
        def __len__(self):
            return N

        def __getitem__(self, place):
            if place > 3:
                raise OSError(errno.EIO, "Input/output error", "image_4.png")
            return torch.zeros(6).double(), 0

    with pytest.raises(OSError, match="image_4.png"):
        tda.attribute(
            posterior(), tda.Classification(), Broken(), data(M, 2),
            method="grad_dot", output=tmp_path / "scores.nc",
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_of_the_file_of_scores(tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tda.scores.writers.os, "pwrite", full)
    with pytest.raises(UserError, match="cannot write .*scores.nc: No space left on device"):
        tda.attribute(
            posterior(), tda.Classification(), data(N, 1), data(M, 2),
            method="grad_dot", output=tmp_path / "scores.nc",
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_a_file_is_not_overwritten(tmp_path):
    (tmp_path / "scores.nc").write_text("mine")
    with pytest.raises(UserError, match="exists: read it by"):
        tda.attribute(
            posterior(), tda.Classification(), data(N, 1), data(M, 2),
            method="grad_dot", output=tmp_path / "scores.nc",
        )  # fmt: skip
    assert (tmp_path / "scores.nc").read_text() == "mine"


def test_a_failed_run_leaves_no_file(tmp_path):
    with pytest.raises(UserError, match="not finite"):
        x, y = data(M, 2)
        x[3] = torch.nan
        tda.attribute(
            posterior(), tda.Classification(), data(N, 1), (x, y),
            method="grad_dot", output=tmp_path / "scores.nc", scratch=tmp_path,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("influence", {"damping": 0.1}),
        ("unrolled", {"rate": 0.1, "steps": 3}),
        ("influence_hessian", {"damping": 5.0}),
        ("influence_low_rank", {"damping": 0.1, "rank": 500}),
        ("trak", {"projection": 1500, "damping": 1.0}),
    ],
)
def test_what_cannot_fit_is_refused_with_what_to_use_instead(method, settings):
    wide = tda.Posterior.of_networks({0: [network(0, width=700)]})  # P = 7,003
    with pytest.raises(UserError, match=r"needs .* GB, and memory_gb allows .* use influence_"):
        tda.attribute(
            wide, tda.Classification(), data(3000, 1), data(5, 2), method=method,
            memory_gb=1e-3, **settings,
        )  # fmt: skip


def test_a_projection_that_cannot_fit_is_refused():
    with torch.random.fork_rng(devices=[]):
        square = nn.Linear(64, 64)
    one = tda.Posterior.of_networks({0: [square]})
    x = torch.ones(3, 64)
    with pytest.raises(
        UserError, match="lower the rank, leave .* out by parameters=, or use influence_cg"
    ):
        tda.attribute(
            one, tda.Classification(), (x, torch.arange(3)), (x, torch.arange(3)),
            method="influence_projected", damping=0.1, rank=64, memory_gb=1e-3,
        )  # fmt: skip


LIMITED = """
import json, resource, sys
from pathlib import Path
import torch, bayestda as tda
torch.set_num_threads(1)
x = torch.randn(20_000, 64)
network = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
posterior = tda.Posterior.of_networks({0: [network]})
folder = Path(sys.argv[1])
SETTINGS = {"grad_dot": {}, "grad_cos": {}, "influence_projected": {"damping": .1, "rank": 8}}

def score(method, train, test, **where):
    y = torch.arange(train) % 10
    return tda.attribute(
        posterior, tda.Classification(), (x[:train], y), (x[:test], y[:test]), method=method,
        memory_gb=0.03, scratch=folder, **where, **SETTINGS[method],
    )

for method in SETTINGS:  # what is loaded and reserved once is not counted
    score(method, 8, 8, output=folder / f"few_{method}.nc").close()
status = Path("/proc/self/status").read_text().splitlines()
size = 1024 * int(next(line for line in status if line.startswith("VmSize")).split()[1])
room = size + 80_000_000
resource.setrlimit(resource.RLIMIT_AS, (room, room))
done = {}
for method in SETTINGS:
    with score(method, 20_000, 1500, output=folder / f"{method}.nc") as scores:
        done[method] = scores.nbytes
try:
    score("grad_dot", 20_000, 1500)
except MemoryError:
    done["in memory"] = "does not fit"
print(json.dumps(done))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_process_with_a_hard_limit_scores_more_than_fits(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    done = json.loads(run.stdout)
    assert done.pop("in memory") == "does not fit"
    assert done == dict.fromkeys(("grad_dot", "grad_cos", "influence_projected"), 120_000_000)


def test_writing_whole_renames_only_what_was_finished(tmp_path):
    with pytest.raises(KeyError), atomic.writing_whole(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise KeyError
    assert not list(tmp_path.iterdir())
