"""ResNet-9: its shape, that members can be stacked, and per-example gradients."""

import pytest
import torch
from torch.func import functional_call, grad, vmap

import bayestda as tda
from bayestda.experiments.networks import seeded
from bayestda.experiments.networks.resnet9 import resnet9
from bayestda.gradients.sample import SampleGradients
from bayestda.model.examples import Data
from bayestda.model.parameters import Parameters
from bayestda.retraining.gold_standard import chunk_for
from bayestda.training.loop import losses


def small(seed=1):
    return seeded(lambda: resnet9(4, width=8), seed).double()


def images(count, size=16, seed=2):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)
    return Data(x, torch.arange(count) % 4, torch.arange(count).numpy())


@pytest.mark.parametrize(("width", "count"), [(64, 2_274_880), (16, 143_248)])
def test_it_has_the_parameters_of_speed_training(width, count):
    network = resnet9(width=width)
    assert Parameters(network).count == count
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    linear = [m for m in network.modules() if isinstance(m, torch.nn.Linear)]
    assert (len(convolutions), len(linear)) == (8, 1)


def test_outputs_are_ten_logits_and_examples_do_not_depend_on_their_batch():
    network, x = resnet9(width=8).double(), images(3, size=32).x
    assert network(x).shape == (3, 10)
    torch.testing.assert_close(network(x)[1:2], network(x[1:2]))


def test_stacked_members_are_members_one_by_one():
    theta_RP = torch.stack([Parameters(small()).read(small(seed)) for seed in (1, 2, 3)])
    asked = (small(), tda.Classification(), theta_RP, images(5))
    torch.testing.assert_close(losses(*asked, stacked=True), losses(*asked, stacked=False))


def test_on_a_cpu_members_are_trained_one_by_one():
    assert chunk_for(small(), images(4), tda.Recipe(1, 4)) == 1


def test_stacked_further_training_is_that_of_one_member_at_a_time():
    recipe = tda.Recipe(2, 4, 0.05, 1e-3, "sgd", keep=1)
    asked = (small(), tda.Classification(), images(9), images(3, seed=3), recipe)
    one, three = (
        tda.further_train(*asked, left_out=[1, 4], seeds=[5], steps=range(5), chunk=chunk)
        for chunk in (1, 3)
    )
    torch.testing.assert_close(
        torch.tensor(one["loss"].values), torch.tensor(three["loss"].values), rtol=0, atol=1e-9
    )


def test_rows_are_gradients_of_single_examples():
    network, objective, data = small(), tda.Classification(), images(4)
    theta_P = Parameters(network).read(network)
    found = SampleGradients(
        network, objective, theta_P, train=data, test=data.take(slice(2)), memory_bytes=1e9
    )
    ((_, rows),) = found.train
    named = {name: p.detach() for name, p in network.named_parameters()}

    def loss(values, x, y):
        return objective.loss(functional_call(network, values, (x[None],)), y[None])[0]

    each = vmap(grad(loss), in_dims=(None, 0, 0))(named, data.x, data.y)
    torch.testing.assert_close(found.vectors(rows)[:, 0], Parameters(network).join(each))
