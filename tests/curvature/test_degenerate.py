"""Curvature of zero is refused, where influence would be Grad-Dot times a number."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bayestda as tda
from bayestda.curvature.degenerate import require_curvature
from bayestda.errors import UserError
from bayestda.gradients.sample import SampleGradients
from bayestda.methods.preconditioned import preconditioned_influence
from bayestda.model.examples import Data
from bayestda.model.parameters import Parameters
from bayestda.training.horizon import Pace

N, K = 6, 3
NLL = tda.FromLoss(lambda f, y: F.nll_loss(f, y, reduction="none"))
SETTINGS = {
    "influence": {"damping": 0.1},
    "influence_cg": {"damping": 0.1},
    "influence_lissa": {"damping": 0.1, "scale": 10.0},
    "influence_low_rank": {"damping": 0.1, "rank": 2},
    "influence_ekfac": {"damping": 0.1},
    "influence_projected": {"damping": 0.1, "rank": 2, "curvature": "gauss_newton"},
    "generalised": {"damping": 0.1},
    "near_stationary": {"damping": 0.1},
    "proposition_1": {"damping": 0.1, "curvature": "gauss_newton"},
    "flow": {},
    "unrolled": {"rate": 0.1, "steps": 10},
}


def layers(*last, hidden=5):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, K), *last).double()


def data():
    x = torch.randn(N, 4, generator=torch.Generator().manual_seed(1)).double()
    return x, torch.arange(N) % K


def scores(network, objective, method, **settings):
    posterior = tda.Posterior.of_networks({0: [network]}, horizons=[10.0])
    return tda.attribute(posterior, objective, data(), data(), method=method, **settings).values


@pytest.mark.parametrize("hidden", [1, 9], ids=["P < N K", "P > N K"])
@pytest.mark.parametrize("method", SETTINGS)
def test_a_loss_that_is_linear_in_the_output_is_refused(method, hidden):
    network = layers(nn.LogSoftmax(1), hidden=hidden)
    with pytest.raises(UserError, match="linear in the network's output .* such as logits"):
        scores(network, NLL, method, **SETTINGS[method])


class LossAsOutput(tda.FromLoss):
    def output(self, network, x):
        x, y = x["x"], x["y"]
        return F.cross_entropy(network(x), y, reduction="none")[:, None]


def test_a_loss_that_is_handed_over_as_the_output_is_refused():
    x, y = data()
    batch = {"x": x, "y": y, "labels": torch.zeros(N)}
    posterior = tda.Posterior.of_networks({0: [layers()]})
    objective = LossAsOutput(lambda f, _: f[:, 0])
    with pytest.raises(UserError, match="logits in place of a loss"):
        tda.attribute(posterior, objective, batch, batch, damping=0.1)
    gradients = tda.attribute(posterior, objective, batch, batch, method="grad_dot")
    expected = scores(layers(), tda.Classification(), "grad_dot")
    np.testing.assert_allclose(gradients.values, expected, rtol=1e-9, atol=1e-12)


def test_the_optimisers_scale_does_not_make_up_for_curvature():
    network = layers(nn.LogSoftmax(1))
    theta_P = Parameters(network).read(network)
    train = Data(*data(), np.arange(N))
    gradients = SampleGradients(network, NLL, theta_P, train=train, test=train, memory_bytes=1e9)
    with pytest.raises(UserError, match="Gauss-Newton curvature is zero"):
        preconditioned_influence(gradients, Pace(1.0, 1.0, torch.ones_like(theta_P)), 0.1)


@pytest.mark.parametrize("method", ["influence", "influence_cg", "influence_ekfac"])
def test_log_probabilities_and_cross_entropy_are_logits_and_cross_entropy(method):
    wanted = scores(layers(), tda.Classification(), method, damping=0.1)
    for objective in (
        tda.Classification(),
        tda.FromLoss(lambda f, y: F.cross_entropy(f, y, reduction="none")),
    ):
        found = scores(layers(nn.LogSoftmax(1)), objective, method, damping=0.1)
        if method != "influence_ekfac":  # whose layers are those before the log-softmax
            np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9)
        assert np.isfinite(found).all()


class FisherRoot(tda.FromLoss):
    """The Hessian in the logits, at log-probabilities."""

    def hessian_root(self, output_BK, _y_B):
        return torch.diag_embed((0.5 * output_BK).exp())


def test_a_root_of_ones_own_counts():
    found = scores(layers(nn.LogSoftmax(1)), FisherRoot(NLL.function), "influence_cg", damping=0.1)
    wanted = scores(layers(), tda.Classification(), "influence_cg", damping=0.1)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9)


def test_one_example_with_curvature_is_enough():
    x, _ = data()
    network = layers()
    y = network(x).detach() + 9.0
    y[-1] -= 8.9
    huber = tda.FromLoss(lambda f, y: F.huber_loss(f, y, reduction="none").sum(1))
    train = Data(x, y, np.arange(N))
    theta_P = Parameters(network).read(network)
    gradients = SampleGradients(network, huber, theta_P, train=train, test=train, memory_bytes=1e9)
    require_curvature(gradients)


def test_a_loss_without_slope_has_scores_of_zero():
    x, _ = data()
    hinge = tda.FromLoss(lambda f, _: (f[:, 0] - 1e3).relu())
    posterior = tda.Posterior.of_networks({0: [layers()]})
    found = tda.attribute(posterior, hinge, (x, x), (x, x), method="influence_cg", damping=0.1)
    assert (found.values == 0).all()


def test_a_hessian_of_zero_is_refused():
    x, _ = data()
    posterior = tda.Posterior.of_networks({0: [nn.Linear(4, 1).double()]})
    linear = tda.FromLoss(lambda f, _: f[:, 0])
    with pytest.raises(UserError, match="the Hessian of the training loss is zero"):
        tda.attribute(posterior, linear, (x, x), (x, x), method="influence_hessian", damping=0.1)
