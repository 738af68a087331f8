"""The paper's CNNs, and the vector of their parameters."""

import pytest
import torch
import torch.nn.functional as F

from bayestda.errors import UserError
from bayestda.experiments import networks
from bayestda.experiments.networks.cnn import PooledGELU
from bayestda.model.parameters import Parameters

SHAPES = {"mnist3": (1, 28, 28), "cifar10": (3, 32, 32)}


@pytest.mark.parametrize(
    ("model", "task", "count"),
    [
        ("cnn2", "mnist3", 225_034),
        ("cnn2", "cifar10", 259_914),
        ("cnn3", "mnist3", 619_786),
        ("cnn3", "cifar10", 620_362),
        ("cnn2", "cifar10s3", 259_914),
    ],
)
def test_parameter_counts_are_those_of_the_paper(model, task, count):
    network = networks.build(model, task, seed=0)
    assert Parameters(network).count == count
    assert network(torch.zeros(2, *SHAPES[task.removesuffix("s3")])).shape == (2, 10)


def test_a_seed_gives_one_initialisation_and_leaves_the_global_generator_alone():
    state = torch.random.get_rng_state()
    first, again, other = (
        Parameters(network).read(network)
        for network in (networks.build("cnn2", "mnist3", seed) for seed in (1, 1, 2))
    )
    assert first.equal(again)
    assert not first.equal(other)
    assert torch.random.get_rng_state().equal(state)


def test_an_unknown_model_is_a_user_error():
    with pytest.raises(UserError, match="unknown model 'cnn9'"):
        networks.build("cnn9", "mnist3", 0)


@pytest.mark.parametrize("size", [(26, 26), (13, 11), (2, 3)])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_pooled_gelu_without_gradients_is_gelu_and_max_pooling(size, scale):
    x = (scale * torch.randn(30, 4, *size)).to(memory_format=torch.channels_last)
    with torch.no_grad():
        fast = PooledGELU()(x)
    torch.testing.assert_close(fast, PooledGELU()(x), rtol=1e-5, atol=2e-7)
    torch.testing.assert_close(PooledGELU()(x), F.max_pool2d(F.gelu(x), 2), rtol=0, atol=0)


def test_split_and_join_are_inverse_with_any_leading_dims(network):
    layout = Parameters(network)
    theta = torch.arange(6.0 * layout.count).reshape(2, 3, layout.count)
    named = layout.split(theta)
    assert all(value.shape == (2, 3, *layout.shapes[name]) for name, value in named.items())
    assert layout.join(named).equal(theta)


def test_read_returns_what_write_wrote(network):
    layout = Parameters(network)
    theta_P = torch.randn(layout.count, dtype=torch.float64)
    layout.write(network, theta_P)
    assert layout.read(network).equal(theta_P)


def test_frozen_parameters_are_no_part_of_theta(network):
    name, parameter = next(iter(network.named_parameters()))
    whole = Parameters(network).count
    parameter.requires_grad_(False)
    assert name not in Parameters(network).shapes
    assert Parameters(network).count == whole - parameter.numel()


def test_a_network_without_trainable_parameters_is_refused(network):
    with pytest.raises(ValueError, match="requires_grad_"):
        Parameters(network.requires_grad_(False))
