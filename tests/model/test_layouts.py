"""The memory layout that copies choose."""

import pytest
import torch
import torch.nn.functional as F
from small_networks import examples
from torch import nn

from bayestda.gradients.sample import SampleGradients
from bayestda.model.layouts import fast_copy
from bayestda.model.losses import Classification
from bayestda.model.parameters import Parameters
from bayestda.training.stacking import copies_of


class Convolved(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 2), nn.Conv2d(4, 4, 1)
        self.norm, self.head = norm, nn.Linear(12, 4)

    def forward(self, x):
        return self.head(self.second(self.norm(self.first(x))).flatten(1))


class Subclass(nn.GroupNorm):
    pass


class Function(nn.Module):
    def forward(self, x):
        return F.group_norm(x, 2)


DATA = examples("tiny_cnn", 3, seed=0)


def is_channels_last(network):
    weight = network.first.weight
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


def copies(network):
    """All copies that differentiate a network."""
    theta_P = Parameters(network).read(network)
    one_by_one = copies_of(network, Classification(), DATA, stacked=False)
    gradients = SampleGradients(
        network, Classification(), theta_P, train=DATA, test=DATA, memory_bytes=1e9
    )
    return fast_copy(network, Classification(), DATA), one_by_one.network, gradients.network


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 4), Subclass(1, 4), Function()])
def test_networks_that_normalise_groups_keep_their_layout(norm):
    network = Convolved(norm).double()
    assert not any(is_channels_last(own.double()) for own in copies(network))


@pytest.mark.parametrize("norm", [nn.Identity(), nn.Tanh(), nn.BatchNorm2d(4)])
def test_other_convolutions_are_copied_to_channels_last(norm):
    network = Convolved(norm).double()
    network.first = nn.Conv2d(1, 4, 2).double()
    assert all(own.second.weight.is_contiguous() for own in (network,))
    found = fast_copy(network, Classification(), DATA).first.weight
    assert found.is_contiguous(memory_format=torch.channels_last)
