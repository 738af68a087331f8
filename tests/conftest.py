"""Fixtures of more than one test file."""

import signal

import pytest
import torch
from small_networks import NETWORKS

# A shell ignores Ctrl-C for what it runs in the background; some tests interrupt what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=sorted(NETWORKS))
def network_name(request):
    return request.param


@pytest.fixture
def network(network_name):
    torch.manual_seed(3)
    return NETWORKS[network_name]().double()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty project root, seen from a foreign folder."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("TDA_ROOT", str(tmp_path / "root"))
    monkeypatch.chdir(elsewhere)
    return tmp_path / "root"
