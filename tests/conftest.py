"""Fixtures of more than one test file."""

import pytest
import torch
from small_networks import NETWORKS


@pytest.fixture(params=sorted(NETWORKS))
def network_name(request):
    return request.param


@pytest.fixture
def network(network_name):
    torch.manual_seed(3)
    return NETWORKS[network_name]().double()
