"""Stacked perceptrons by batched products against ``vmap``, in float64."""

import pytest
import torch
from small_networks import examples, mlp, sequence_mlp
from torch import nn

import bayestda as tda
from bayestda.model.measuring import measuring
from bayestda.model.parameters import Parameters
from bayestda.training.stacked_mlp import Perceptrons, fits
from bayestda.training.stacking import Stacked, copies_of

R, B = 3, 5
DATA = examples("mlp", 3, seed=0)


def frozen():
    network = nn.Sequential(nn.Linear(6, 9), nn.SiLU(), nn.Linear(9, 4, bias=False), nn.Tanh())
    network[0].weight.requires_grad_(False)
    return network.append(nn.Linear(4, 1))


def nested():
    return nn.Sequential(
        nn.Flatten(), nn.Sequential(nn.Linear(6, 2), nn.ReLU(inplace=True)), nn.Linear(2, 7)
    )


def single():
    return nn.Linear(6, 2)


SHAPES = {mlp: (2, 3), sequence_mlp: (2, 3), frozen: (6,), nested: (2, 3), single: (6,)}


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("build", SHAPES, ids=lambda build: build.__name__)
def test_outputs_and_gradients_are_those_of_vmap(build, shared):
    network = build().double()
    x = torch.randn(1 if shared else R, B, *SHAPES[build], dtype=torch.float64)
    theta_RP = torch.randn(R, Parameters(network).count, dtype=torch.float64)
    found = []
    for kind in (Perceptrons, Stacked):
        copies = kind(network, tda.Regression())
        copies.start(theta_RP)
        assert torch.equal(copies.vector(), theta_RP)
        output_RBK = copies(x)
        output_RBK.square().sum().backward()
        for leaf in copies.leaves():  # a step of gradient descent
            leaf.data -= leaf.grad
        found.append((output_RBK.detach(), copies.vector() - theta_RP))
    for own, expected in zip(*found, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-12, atol=1e-12)


class Own(tda.Regression):
    def output(self, network, x):
        return network(x)[:, :1]


class Subclass(nn.Linear):
    def forward(self, x):
        return super().forward(x) ** 2


def hooked():
    network = mlp()
    network[1].register_forward_hook(lambda _module, _inputs, output: 2 * output)
    return network


def tied():
    layer = nn.Linear(6, 6)
    return nn.Sequential(layer, nn.Tanh(), layer)


def test_networks_that_are_no_plain_chain_go_by_vmap():
    assert fits(mlp(), tda.Classification())
    assert fits(mlp(), measuring(tda.Classification(), "margin"))
    assert not fits(mlp(), Own())
    assert not fits(mlp(), measuring(Own(), "loss"))
    others = [
        hooked(), tied(), nn.Sequential(Subclass(6, 4)), nn.Sequential(mlp(), nn.Dropout()),
        nn.Sequential(nn.Flatten(0), nn.Linear(6, 4)), nn.Sequential(nn.Softmax(0)),
    ]  # fmt: skip
    assert not any(fits(network, tda.Classification()) for network in others)
    assert isinstance(copies_of(mlp(), tda.Regression(), DATA, stacked=True), Perceptrons)
    assert isinstance(copies_of(tied(), tda.Regression(), DATA, stacked=True), Stacked)


def test_more_than_one_row_of_outputs_per_example_is_refused():
    network = nn.Sequential(nn.Linear(3, 2))
    copies = copies_of(network, tda.Regression(), DATA, stacked=True)
    copies.start(torch.zeros(R, 8))
    with pytest.raises(tda.errors.UserError, match="one row of outputs per example"):
        copies(torch.zeros(R, B, 4, 3))
