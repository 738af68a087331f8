"""Checkpoints are read as they lie on disk, and nothing is unpickled."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import bayestda as tda
from bayestda.errors import UserError
from bayestda.model.checkpoint_files import check_checkpoint, read_checkpoint


def build():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


@pytest.fixture
def state():
    torch.manual_seed(0)
    return build().state_dict()


@pytest.fixture
def shards(tmp_path, state):
    """Two shards and their index."""
    place = {name: f"model-{name[0]}.safetensors" for name in state}
    for file in set(place.values()):
        save_file({n: v for n, v in state.items() if place[n] == file}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": place}))
    return index


def test_a_folder_a_file_and_an_index_hold_the_same(tmp_path, state, shards):
    save_file(state, tmp_path / "one.safetensors")
    folder = tmp_path / "checkpoint-500"
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    for path in (tmp_path / "one.safetensors", folder, shards, shards.parent):
        check_checkpoint(path)
        found = read_checkpoint(path)
        assert found.keys() == state.keys()
        assert all(found[name].equal(value) for name, value in state.items())


def test_a_posterior_is_made_of_folders(tmp_path, state):
    save_file({f"module.{name}": value for name, value in state.items()},
              tmp_path / "model.safetensors")  # fmt: skip
    network = tda.Posterior.from_checkpoints(build, {0: [tmp_path]}).network(0, 0)
    assert all(value.equal(state[name]) for name, value in network.state_dict().items())


def test_an_adapter_comes_before_its_base_model(tmp_path, state):
    save_file(state, tmp_path / "model.safetensors")
    save_file({"a": torch.ones(1)}, tmp_path / "adapter_model.safetensors")
    assert read_checkpoint(tmp_path).keys() == {"a"}


def refusal(path):
    with pytest.raises(UserError) as error:
        check_checkpoint(path)
        read_checkpoint(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_cannot_be_read_is_refused_with_the_mend(tmp_path, shards):
    assert "holds none of adapter_model.safetensors" in refusal(_made(tmp_path / "empty"))
    (tmp_path / "pickled.pt").write_bytes(b"")
    assert "safetensors.torch.save_file" in refusal(tmp_path / "pickled.pt")
    assert "does not exist" in refusal(tmp_path / "missing.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((tmp_path / "model-0.safetensors").read_bytes()[:40])
    assert "is damaged" in refusal(cut)
    (tmp_path / "model-0.safetensors").unlink()
    assert "model-0.safetensors does not exist" in refusal(shards)
    for text in ("{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": "../other.safetensors"}}'):
        shards.write_text(text)
        assert "index" in refusal(shards)


def _made(folder):
    folder.mkdir()
    return folder
