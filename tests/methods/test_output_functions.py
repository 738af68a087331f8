"""TRAK with an output function of one's own, against its formula on explicit features."""

import pytest
import reference
import torch
import torch.nn.functional as F
from torch import nn

import bayestda as tda
from bayestda.errors import UserError
from bayestda.gradients.sample import SampleGradients
from bayestda.methods.trak import Projection
from bayestda.model.examples import Data
from bayestda.model.parameters import Parameters

N, K, SIZE, DAMPING = 12, 3, 4, 0.3
WEIGHTS = torch.tensor([0.2, 1.0, 3.0])


def weighted(f, y):
    return F.cross_entropy(f, y, weight=WEIGHTS.to(f), reduction="none")


def of_labels(f, y):
    return F.binary_cross_entropy_with_logits(f, y, reduction="none").sum(1)


def margins_of_labels(f, y):
    return ((2 * y - 1) * f).sum(1)


def problem(outputs=K):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, outputs)).double()
    return network, torch.randn(N, 4).double()


def trak(network, objective, x, y, **settings):
    posterior = tda.Posterior.of_networks({0: [network]})
    settings = {"projection": SIZE, "damping": DAMPING} | settings
    return torch.as_tensor(
        tda.attribute(posterior, objective, (x, y), (x, y), method="trak", **settings).values[0]
    )


def by_hand(network, x, y, h, weight_N):
    """φ(z)ᵀ (ΦᵀΦ + λ)⁻¹ φ(z_j) Q_j with φ the projected gradient of h."""
    data = Data(x, y, torch.arange(len(x)).numpy())
    gradients = SampleGradients(
        network, tda.FromLoss(h), Parameters(network).read(network),
        train=data, test=data, memory_bytes=1e9,
    )  # fmt: skip
    signs_Pk = Projection(gradients, SIZE, 0)(torch.eye(gradients.layout.count).double())
    phi_Nk = reference.loss_gradients(network, data, tda.FromLoss(h)) @ signs_Pk
    gram_kk = phi_Nk.T @ phi_Nk + DAMPING * torch.eye(SIZE).double()
    return phi_Nk @ torch.linalg.inv(gram_kk) @ phi_Nk.T * weight_N[:, None]


def test_class_weights_scale_how_far_an_example_is_from_a_fit():
    (network, x), y = problem(), torch.arange(N) % K
    found = trak(network, tda.FromLoss(weighted), x, y, output_function="margin")
    plain = trak(network, tda.Classification(), x, y)
    torch.testing.assert_close(found, plain * WEIGHTS[y].double()[:, None], rtol=1e-9, atol=1e-11)


def test_an_output_function_and_the_losss_slope_in_it_make_the_scores():
    network, x = problem()
    y = torch.randint(0, 2, (N, K), generator=torch.Generator().manual_seed(1)).double()

    def slope(f, y):
        return -torch.sigmoid(-margins_of_labels(f, y))

    settings = {"output_function": margins_of_labels, "loss_slope": slope}
    found = trak(network, tda.FromLoss(of_labels), x, y, **settings)
    weight_N = torch.sigmoid(-margins_of_labels(network(x), y)).detach()
    expected = by_hand(network, x, y, margins_of_labels, weight_N)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_the_negative_loss_is_an_output_function_of_weight_one():
    network, x = problem()
    y = torch.rand(N, K, generator=torch.Generator().manual_seed(1)).double()

    def negative(f, y):
        return -of_labels(f, y)

    found = trak(network, tda.FromLoss(of_labels), x, y, output_function=negative)
    expected = by_hand(network, x, y, negative, torch.ones(N).double())
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_the_slope_of_a_loss_of_one_output_follows_from_it():
    network, x = problem(1)
    y = torch.randn(N, 1, generator=torch.Generator().manual_seed(1)).double()
    huber = tda.FromLoss(lambda f, y: F.huber_loss(f, y, reduction="none").sum(1))
    found = trak(network, huber, x, y, output_function="output")
    weight_N = (y - network(x)).detach().clamp(-1, 1)[:, 0]
    expected = by_hand(network, x, y, lambda f, _: f[:, 0], weight_N)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


class Smoothed(tda.Classification):
    def loss(self, output, y):
        return F.cross_entropy(output, y, reduction="none", label_smoothing=0.1)


@pytest.mark.parametrize("objective", [tda.FromLoss(weighted), Smoothed()], ids=["own", "subclass"])
def test_a_loss_of_ones_own_needs_an_output_function(objective):
    (network, x), y = problem(), torch.arange(N) % K
    with pytest.raises(UserError, match="give output_function="):
        trak(network, objective, x, y)


def test_settings_that_do_not_make_an_output_function_are_refused():
    (network, x), y = problem(), torch.arange(N) % K
    for settings, sentence in (
        ({"output_function": "margn"}, "'margn' is unknown: choose one of loss, margin"),
        ({"output_function": lambda f, _: f}, "must give one number per example"),
        ({"output_function": lambda f, _: f[:, 0]}, "12 of 12 .* give loss_slope="),
        ({"loss_slope": lambda f, _: f[:, 0]}, "belongs to output_function"),
    ):
        with pytest.raises(UserError, match=sentence):
            trak(network, tda.Classification(), x, y, **settings)
