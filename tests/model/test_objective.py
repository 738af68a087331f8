"""Losses, their derivatives and measurements against exact values and brute force in float64."""

import copy
from decimal import Decimal, getcontext

import numpy as np
import pytest
import reference
import torch
from torch import nn

import bayestda as tda
from bayestda.curvature.primal import gauss_newton_matrix
from bayestda.errors import UserError
from bayestda.gradients.sample import SampleGradients
from bayestda.methods.generalised import generalised_influence
from bayestda.methods.preconditioned import preconditioned_influence
from bayestda.model.examples import Data
from bayestda.model.measuring import measuring
from bayestda.model.objective import OutsideSpan
from bayestda.model.parameters import Parameters
from bayestda.training.horizon import Pace

N, M, DAMPING, HORIZON = 6, 4, 0.3, 3.0
HUBER = tda.FromLoss(lambda f, y: nn.functional.huber_loss(f, y, reduction="none").sum(1))


def huber_problem(large, width=5):
    """A network with N·K < P whose residuals are small, but for those of some examples."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 2)).double()
    x = torch.randn(N + M, 4).double()
    y = network(x).detach() + 0.3 * torch.randn(N + M, 2).double()
    y[large] += torch.tensor([4.0, -5.0]).double()
    data = Data(x, y, np.arange(N + M))
    return network, data.take(slice(N)), data.take(slice(N, N + M))


@pytest.mark.parametrize("large", [[], [1, 4, 7], [1, 2, 3, 4, 5]], ids=["none", "some", "most"])
def test_examples_without_curvature_keep_their_gradient(large):
    network, train, test = huber_problem(large)
    assert Parameters(network).count > 2 * N
    posterior = tda.Posterior.of_networks({0: [network]}, horizons=[HORIZON])
    train_NP, test_MP = (reference.loss_gradients(network, d, HUBER) for d in (train, test))
    values_P, basis_PP = torch.linalg.eigh(reference.gauss_newton(network, train, HUBER))
    safe_P = values_P.clamp(min=1e-10)
    flow_P = torch.where(values_P > 1e-10, -torch.expm1(-HORIZON * safe_P) / safe_P, HORIZON)
    steps_P = sum(0.1 * (1 - 0.1 * values_P) ** t for t in range(30))
    for method, phi_P, settings in (
        ("influence", 1 / (values_P + DAMPING), {"damping": DAMPING}),
        ("flow", flow_P, {}),
        ("unrolled", steps_P, {"rate": 0.1, "steps": 30}),
    ):
        found = tda.attribute(posterior, HUBER, train, test, method=method, **settings)
        expected = train_NP @ (basis_PP * phi_P) @ basis_PP.T @ test_MP.T
        np.testing.assert_allclose(found.values[0, 0], expected, rtol=1e-6, atol=1e-9)
        assert (found.values != 0).all()


def test_methods_that_need_gradients_in_the_span_refuse_others():
    network, train, test = huber_problem([1, 4])
    theta_P = Parameters(network).read(network)
    gradients = SampleGradients(network, HUBER, theta_P, train=train, test=test, memory_bytes=1e9)
    pace = Pace(HORIZON, HORIZON, torch.ones_like(theta_P))
    for method in (
        lambda: generalised_influence(gradients, DAMPING),
        lambda: preconditioned_influence(gradients, pace, DAMPING),
    ):
        with pytest.raises(OutsideSpan, match=r"output of 2 of 6 .* use influence, flow"):
            method()


def test_a_singular_gauss_newton_matrix_is_refused_where_p_is_small_too():
    network = nn.Linear(3, 1).double()  # P = 4 < N
    x = torch.randn(N, 3, generator=torch.Generator().manual_seed(1)).double()
    x[:, 2] = 0  # one parameter has no gradient anywhere
    posterior, data = tda.Posterior.of_networks({0: [network]}), (x, x[:, 0])
    with pytest.raises(UserError, match="damping=0.0 leaves the curvature singular"):
        tda.attribute(posterior, tda.Regression(), data, data, damping=0.0)


def test_hessians_of_some_examples_at_a_time_make_the_matrix(monkeypatch):
    network = nn.Linear(3, 2).double()  # P = 8 < N · K
    data = Data(torch.randn(N, 3).double(), torch.arange(N) % 2, np.arange(N))
    theta_P, sizes = Parameters(network).read(network), []
    root = tda.Classification.hessian_root
    monkeypatch.setattr(
        tda.Classification, "hessian_root",
        lambda self, f_BK, y_B: sizes.append(len(f_BK)) or root(self, f_BK, y_B),
    )  # fmt: skip
    gradients = SampleGradients(
        network, tda.Classification(), theta_P, train=data, test=data, memory_bytes=1e9
    )
    gradients.jacobian.block = 4
    expected_PP = reference.gauss_newton(network, data)
    torch.testing.assert_close(gauss_newton_matrix(gradients), expected_PP, rtol=1e-10, atol=1e-13)
    assert sizes == [4, 2]


def exactly(function, margin):
    """With 120 digits, of e to the margin."""
    getcontext().prec = 120
    return float(function(Decimal(margin).exp()))


@pytest.mark.parametrize("target", [0.0, 1.0])
@pytest.mark.parametrize("logit", [-40.0, -25.0, -3.0, 0.5, 25.0, 40.0])
def test_a_confident_logit_keeps_loss_and_gradient(logit, target):
    objective, margin = tda.BinaryClassification(), logit if target else -logit
    f_11 = torch.tensor([[logit]], dtype=torch.float64, requires_grad=True)
    y_1 = torch.tensor([target], dtype=torch.float64)
    loss = exactly(lambda e: (1 + 1 / e).ln(), margin)
    slope = exactly(lambda e: 1 / (1 + e), margin) * (-1 if target else 1)  # ∓ σ(−margin)
    found = objective.loss(f_11, y_1)
    (slope_11,) = torch.autograd.grad(found.sum(), f_11)
    np.testing.assert_allclose(found.item(), loss, rtol=1e-14)
    np.testing.assert_allclose(slope_11.item(), slope, rtol=1e-14)
    in_root = objective.hessian_root(f_11, y_1)[:, :, 0] * objective.gradient_in_root(f_11, y_1)
    np.testing.assert_allclose(in_root.item(), slope, rtol=1e-13)


@pytest.mark.parametrize("method", ["grad_dot", "influence", "influence_cg"])
def test_targets_of_one_logit_may_have_an_extra_dim(method):
    network, x = nn.Linear(3, 1).double(), torch.randn(N, 3).double()
    y_B = (torch.arange(N) % 2).double()
    settings = {} if method == "grad_dot" else {"damping": DAMPING}
    posterior = tda.Posterior.of_networks({0: [network]})
    plain, other = (
        tda.attribute(
            posterior, tda.BinaryClassification(), (x, y), (x, y), method=method, **settings
        )
        for y in (y_B, y_B[:, None])
    )
    np.testing.assert_array_equal(other.values, plain.values)


def test_outputs_and_targets_that_are_not_of_one_logit_are_refused():
    objective, y_B = tda.BinaryClassification(), torch.arange(N) % 2
    for value in (objective.loss, objective.hessian_root, objective.gradient_in_root):
        with pytest.raises(UserError, match=r"the logit of class 1, not 2"):
            value(torch.zeros(N, 2), y_B)
        for y in (y_B[:-1], y_B[:, None].expand(-1, N)):
            with pytest.raises(UserError, match=r"do not fit outputs \(6, 1\)"):
                value(torch.zeros(N, 1), y)


@pytest.mark.parametrize("y_shape", [(2,), (2, 1)])
def test_targets_of_one_logit_are_shared_by_the_members(y_shape):
    """A loop over members and examples."""
    output_RB1 = torch.randn(3, 2, 1).double()
    y_B = torch.tensor([0, 1])
    expected_RB = torch.stack(
        [
            torch.stack(
                [nn.functional.softplus(f if y == 0 else -f) for f, y in zip(own, y_B, strict=True)]
            )
            for own in output_RB1[..., 0]
        ]
    )
    found_RB = tda.BinaryClassification().loss(output_RB1, y_B.view(y_shape))
    torch.testing.assert_close(found_RB, expected_RB)


@pytest.mark.parametrize("name", ["loss", "margin", "log_probability", "probability"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.bool])
def test_measurements_of_one_logit_are_those_of_two_classes(name, dtype):
    logit_B1 = torch.tensor([[-2.0], [0.5], [3.0], [1.0]], dtype=torch.float64)
    y_B = torch.tensor([0, 1, 0, 1])
    two_B2 = torch.cat([torch.zeros_like(logit_B1), logit_B1], dim=1)
    expected_B = measuring(tda.Classification(), name).measure(two_B2, y_B)
    found_B = measuring(tda.BinaryClassification(), name).measure(logit_B1, y_B.to(dtype))
    torch.testing.assert_close(found_B, expected_B)


def test_an_objective_that_measures_something_else_can_be_copied():
    copied = copy.deepcopy(measuring(tda.Regression(), "output"))
    output_B1 = torch.tensor([[2.0], [3.0]])
    torch.testing.assert_close(copied.measure(output_B1, output_B1), output_B1[:, 0])
    torch.testing.assert_close(copied.loss(output_B1, 0 * output_B1), output_B1[:, 0] ** 2)
