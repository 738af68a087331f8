"""Blocks are as large as passes through the network allow; single passes are single."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bayestda as tda
from bayestda.gradients.sample import OUTPUT_COPIES, SampleGradients
from bayestda.model.examples import Data
from bayestda.model.parameters import Parameters

N, WIDE = 12, 5000


def data(width=3):
    x = torch.randn(N, width, generator=torch.Generator().manual_seed(0)).double()
    return Data(x, torch.arange(N) % 3, np.arange(N))


def gradients(network, memory_bytes, objective=None):
    return SampleGradients(
        network.double(), objective or tda.Classification(), Parameters(network).read(network),
        train=data(), test=data(), memory_bytes=memory_bytes,
    )  # fmt: skip


def adapted():
    """Few parameters are trained, and outputs are many."""
    return nn.Sequential(nn.Linear(3, 1), nn.Linear(1, WIDE).requires_grad_(False))


def test_a_block_has_room_for_the_outputs_of_its_examples():
    own = gradients(adapted(), memory_bytes=3 * 4 * 4 * OUTPUT_COPIES * 8 * WIDE)
    assert own.pass_bytes >= OUTPUT_COPIES * 8 * WIDE
    assert 1 <= own.train.block <= 4
    assert gradients(adapted(), memory_bytes=1e9).train.block == N


def test_activations_count_and_parameters_do_not():
    wide = nn.Sequential(nn.Linear(3, 1000), nn.Tanh(), nn.Linear(1000, 2))
    found = gradients(wide, memory_bytes=1e9).pass_bytes - OUTPUT_COPIES * 8 * 2
    assert 8 * 1000 <= found < 4 * 8 * 1000


def test_smaller_blocks_change_no_score():
    few = gradients(adapted(), memory_bytes=3 * 4 * 2 * OUTPUT_COPIES * 8 * WIDE)
    many = gradients(adapted().requires_grad_(True), memory_bytes=1e9)
    assert few.train.block < many.train.block
    torch.manual_seed(0)
    network = adapted()
    posterior = tda.Posterior.of_networks({0: [network.double()]})
    pair = (data().x, data().y)
    results = [
        tda.attribute(posterior, tda.Classification(), pair, pair, method="grad_dot", memory_gb=g)
        for g in (0.001, 1)
    ]
    np.testing.assert_allclose(results[0].values, results[1].values, rtol=1e-9)


class Branches(nn.Module):
    """Has a parameter of its own, and takes a way that depends on the values of its input."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.last = nn.Linear(3, 3)
        self.calls: list[int] = []

    def forward(self, x):
        self.calls.append(len(x))
        rows = [
            row * self.scale if float(row.detach().sum()) > 0 else row - self.scale for row in x
        ]
        return self.last(torch.stack(rows))


@pytest.mark.filterwarnings("ignore:gradients of scale")
def test_single_passes_give_the_gradients_of_single_examples():
    torch.manual_seed(0)
    network, own = Branches().double(), data()
    rows = []
    for x, y in zip(own.x, own.y, strict=True):
        loss = F.cross_entropy(network(x[None]), y[None])
        rows.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, network.parameters())])
        )
    wanted = torch.stack(rows) @ torch.stack(rows).T
    posterior = tda.Posterior.of_networks({0: [network]})
    pair = (own.x, own.y)
    found = tda.attribute(posterior, tda.Classification(), pair, pair, method="grad_dot")
    np.testing.assert_allclose(found.values[0, 0], wanted, rtol=1e-9)


def test_a_single_pass_goes_through_the_network_with_one_example():
    """A backward pass of one example through a batch's graph would cost as much as the batch's."""
    torch.manual_seed(0)
    own = gradients(Branches(), memory_bytes=1e9)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        own.train  # noqa: B018 - its first block is made here
        own.network.calls.clear()
        for _ in own.train:
            pass
    assert own.network.calls.count(1) == N
    assert own.network.calls.count(N) == 1
    assert sum("one by one" in str(warning.message) for warning in said) == 1
    assert "attn_implementation='eager'" in str(said[0].message)
