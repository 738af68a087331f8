"""Removals in further training against derivatives of what they linearise, in float64."""

import pytest
import torch
from small_networks import examples
from torch.autograd.functional import hessian
from torch.func import functional_call, jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel

import bayestda as tda
from bayestda.curvature.filters import ridge, unrolled
from bayestda.errors import UserError
from bayestda.gradients import blocks
from bayestda.gradients.sample import SampleGradients
from bayestda.methods.generalised import (
    generalised,
    generalised_influence,
    near_stationary,
    proposition_1,
)
from bayestda.methods.influence import filtered_influence
from bayestda.methods.linearised import linearised
from bayestda.model.losses import Classification
from bayestda.model.parameters import Parameters

N, M, DAMPING = 7, 3, 1.3
CLOSE = {"rtol": 1e-7, "atol": 1e-10}


class Brute:
    """Everything as dense matrices, with weights w of the examples as variables."""

    def __init__(self, network, network_name):
        self.network, self.layout = network, Parameters(network)
        self.train, self.test = examples(network_name, N, 1), examples(network_name, M, 2)
        self.theta_P = self.layout.read(network)
        self.ones_N = torch.ones(N, dtype=torch.float64)
        self.gradients = SampleGradients(
            network, Classification(), self.theta_P, train=self.train, test=self.test,
            memory_bytes=1e9,
        )  # fmt: skip
        self.test_MP = jacrev(lambda theta_P: self.losses(theta_P, self.test))(self.theta_P)

    def outputs(self, theta_P, data):
        return functional_call(self.network, self.layout.split(theta_P), (data.x,))

    def losses(self, theta_P, data):
        return Classification().loss(self.outputs(theta_P, data), data.y)

    def risk(self, theta_P, weight_N):
        return (weight_N * self.losses(theta_P, self.train)).sum() / N

    def gradient(self, weight_N):
        return jacrev(self.risk)(self.theta_P, weight_N)

    def hessian(self, weight_N):
        return hessian(
            lambda theta_P: self.risk(theta_P, weight_N), self.theta_P, create_graph=True
        )

    def gauss_newton(self, weight_N):
        jacobian_NKP = jacrev(self.outputs)(self.theta_P, self.train)
        output_NK = self.outputs(self.theta_P, self.train).detach()
        in_output = torch.stack(
            [
                hessian(lambda f_K, y=y: Classification().loss(f_K[None], y[None])[0], f_K)
                for f_K, y in zip(output_NK, self.train.y, strict=True)
            ]
        )
        return torch.einsum(
            "n,nkp,nkl,nlq->pq", weight_N / N, jacobian_NKP, in_output, jacobian_NKP
        )

    def minimiser(self, curvature):
        """Δ(D) of equation 15, as a function of the examples' weights."""
        eye_PP = DAMPING * torch.eye(len(self.theta_P), dtype=torch.float64)
        return lambda w_N: -torch.linalg.solve(curvature(w_N) + eye_PP, self.gradient(w_N))

    def removal(self, step):
        """N times what an infinitesimal removal does to g, where step(w) is Δ(D)."""
        change_PN = torch.autograd.functional.jacobian(step, self.ones_N)
        return -N * (self.test_MP @ change_PN).T


@pytest.fixture
def brute(network, network_name):
    return Brute(network, network_name)


def test_corollary_2_is_the_derivative_of_the_damped_gauss_newton_minimiser(brute):
    expected = brute.removal(brute.minimiser(brute.gauss_newton))
    scores_NM = generalised_influence(brute.gradients, DAMPING)
    torch.testing.assert_close(scores_NM, expected, **CLOSE)
    assert (scores_NM - filtered_influence(brute.gradients, ridge(DAMPING))).abs().max() > 1e-3


def test_proposition_1_is_the_derivative_of_the_damped_newton_minimiser(brute):
    lowest = torch.linalg.eigvalsh(brute.hessian(brute.ones_N))[0]
    assert lowest > -DAMPING  # conjugate gradients need it
    expected = brute.removal(brute.minimiser(brute.hessian))
    scores_NM = proposition_1(brute.gradients, DAMPING, tolerance=1e-12)
    torch.testing.assert_close(scores_NM, expected, rtol=1e-5, atol=1e-8)


def test_with_gauss_newton_proposition_1_keeps_each_examples_true_hessian(brute):
    eye_PP = DAMPING * torch.eye(len(brute.theta_P), dtype=torch.float64)
    solve = torch.linalg.inv(brute.gauss_newton(brute.ones_N) + eye_PP)
    delta_P = -solve @ brute.gradient(brute.ones_N)
    rows = []
    for row in torch.eye(N, dtype=torch.float64):
        own_P = brute.gradient(row) + brute.hessian(row) @ delta_P
        rows.append(brute.test_MP @ solve @ (N * own_P))
    scores_NM = proposition_1(brute.gradients, DAMPING, curvature="gauss_newton", tolerance=1e-12)
    torch.testing.assert_close(scores_NM, torch.stack(rows), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("steps", [1, 5, 40])
def test_the_horizon_filter_is_the_derivative_of_gradient_descent_on_the_quadratic_model(
    brute, steps
):
    rate = 0.1

    def descent(weight_N):
        gradient_P, curvature_PP = brute.gradient(weight_N), brute.gauss_newton(weight_N)
        delta_P = torch.zeros_like(brute.theta_P)
        for _ in range(steps):
            delta_P = delta_P - rate * (gradient_P + curvature_PP @ delta_P)
        return delta_P

    assert torch.linalg.eigvalsh(brute.gauss_newton(brute.ones_N))[-1] * rate < 1
    scores_NM = generalised(brute.gradients, unrolled(rate, steps))
    torch.testing.assert_close(scores_NM, brute.removal(descent), **CLOSE)

    def measured(weight_N):
        jacobian_MKP = jacrev(brute.outputs)(brute.theta_P, brute.test)
        output_MK = brute.outputs(brute.theta_P, brute.test)
        moved_MK = output_MK + torch.einsum("mkp,p->mk", jacobian_MKP, descent(weight_N))
        return Classification().loss(moved_MK, brute.test.y)

    change_MN = torch.autograd.functional.jacobian(measured, brute.ones_N)
    scores_NM = linearised(brute.gradients, unrolled(rate, steps))
    torch.testing.assert_close(scores_NM, -N * change_MN.T, **CLOSE)


def test_equation_16_takes_the_gradient_after_further_training(brute):
    eye_PP = DAMPING * torch.eye(len(brute.theta_P), dtype=torch.float64)
    damped_PP = brute.gauss_newton(brute.ones_N) + eye_PP
    moved_P = brute.theta_P - torch.linalg.solve(damped_PP, brute.gradient(brute.ones_N))
    train_NP = jacrev(lambda theta_P: brute.losses(theta_P, brute.train))(moved_P)
    expected = train_NP @ torch.linalg.solve(damped_PP, brute.test_MP.T)
    torch.testing.assert_close(near_stationary(brute.gradients, DAMPING), expected, **CLOSE)


@pytest.mark.parametrize(
    ("name", "direct"),
    [
        ("generalised", generalised_influence),
        ("proposition_1", proposition_1),
        ("near_stationary", near_stationary),
    ],
)
def test_each_is_a_method_of_the_library(brute, name, direct):
    posterior = tda.Posterior.of_networks({0: [brute.network]})
    scores = tda.attribute(
        posterior, Classification(), brute.train, brute.test, method=name, damping=DAMPING
    )
    expected_NM = direct(brute.gradients, DAMPING)
    torch.testing.assert_close(torch.tensor(scores.values[0, 0]), expected_NM, **CLOSE)


def test_proposition_1_needs_room_for_the_test_gradients(brute, monkeypatch):
    monkeypatch.setattr(blocks, "SMALL", 0)
    brute.gradients.memory_bytes = 5 * M * brute.theta_P.nbytes
    with pytest.raises(UserError, match=r"the test gradients .* needs .* use generalised"):
        proposition_1(brute.gradients, DAMPING)


def test_proposition_1_goes_through_attention():
    """Faster kernels of attention have no second derivative."""

    class Attention(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inputs, self.head = torch.nn.Linear(3, 12), torch.nn.Linear(4, 4)

        def forward(self, x):
            q, k, v = self.inputs(x)[:, None].chunk(3, dim=-1)  # one head
            attended = torch.nn.functional.scaled_dot_product_attention(q, k, v)
            return self.head(attended.mean((1, 2)))

    torch.manual_seed(0)
    with sdpa_kernel(SDPBackend.MATH):
        brute = Brute(Attention().double(), "sequence_mlp")
    found = proposition_1(brute.gradients, 10.0, tolerance=1e-12)
    eye_PP = 10.0 * torch.eye(len(brute.theta_P), dtype=torch.float64)
    with sdpa_kernel(SDPBackend.MATH):
        solve_PP = torch.linalg.inv(brute.hessian(brute.ones_N) + eye_PP)
        delta_P = -solve_PP @ brute.gradient(brute.ones_N)
        rows = [
            brute.test_MP @ solve_PP @ (N * (brute.gradient(row) + brute.hessian(row) @ delta_P))
            for row in torch.eye(N, dtype=torch.float64)
        ]
    torch.testing.assert_close(found, torch.stack(rows), rtol=1e-5, atol=1e-8)
