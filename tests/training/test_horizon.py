"""How far a run has come: against PyTorch's own optimisers, and influence at that horizon."""

import numpy as np
import pytest
import torch
from reference import gauss_newton, loss_gradients
from torch import nn

import bayestda as tda
from bayestda.errors import UserError
from bayestda.model.examples import examples
from bayestda.training.horizon import recorded_paces

N, M, SEED = 11, 5, 4
SGD = tda.Recipe(4, 4, 0.1, 0.05, "sgd", linear_decay=True, keep=2)
ADAM = tda.Recipe(4, 4, 0.01, 0.05, "adam", linear_decay=True, keep=2)
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(N + M, 3, generator=GENERATOR, dtype=torch.float64)
Y = (X[:, 0] > 0).long()
TRAIN, TEST = (X[:N], Y[:N]), (X[N:], Y[N:])


def build():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def trained(recipe):
    return tda.train_posterior(build, tda.Classification(), TRAIN, recipe, seeds=[SEED])


def test_the_horizon_of_gradient_descent_is_the_sum_of_its_rates():
    found = recorded_paces(trained(SGD), tda.Classification(), TRAIN, SEED)
    rates = SGD.learning_rates(N)
    assert [pace.horizon for pace in found] == pytest.approx([sum(rates[:9]), sum(rates)])
    assert [pace.rate_sum for pace in found] == pytest.approx([sum(rates[:9]), sum(rates)])
    torch.testing.assert_close(found[0].scale_P, torch.ones(26, dtype=torch.float64))  # as θ


def test_the_horizon_of_momentum_grows_with_its_moment():
    recipe = tda.Recipe(4, 4, 0.01, 0.05, "sgd", keep=1, momentum=0.75)
    (found,) = recorded_paces(trained(recipe), tda.Classification(), TRAIN, SEED)
    assert found.horizon == pytest.approx(4 * found.rate_sum)


def test_the_horizon_of_adam_follows_from_its_second_moments():
    posterior = trained(ADAM)
    network = build()
    torch.nn.utils.vector_to_parameters(
        posterior.training.initial[SEED].clone(), network.parameters()
    )
    optimizer = torch.optim.Adam(network.parameters(), weight_decay=ADAM.weight_decay)
    horizon, kept, rates = 0.0, [], iter(ADAM.learning_rates(N))
    for order_N in posterior.training.order[SEED][0]:
        for batch_B in order_N.split(ADAM.batch_size):
            rate = next(rates)
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(X[batch_B]), Y[batch_B]).backward()
            decayed = [p.grad + ADAM.weight_decay * p.detach() for p in network.parameters()]
            optimizer.step()
            states = [optimizer.state[p] for p in network.parameters()]
            scales = [
                (s["exp_avg_sq"] / (1 - 0.999 ** float(s["step"]))).sqrt() + 1e-8 for s in states
            ]
            along = sum((g**2 / d).sum() for g, d in zip(decayed, scales, strict=True))
            horizon += rate * float(along / sum((g**2).sum() for g in decayed))
        kept.append((horizon, torch.cat([d.flatten() for d in scales])))
    found = recorded_paces(posterior, tda.Classification(), TRAIN, SEED)
    for pace, (expected, scale_P) in zip(found, kept[-2:], strict=True):
        assert pace.horizon == pytest.approx(expected, rel=1e-9)
        torch.testing.assert_close(pace.scale_P, scale_P, rtol=1e-9, atol=0)
    assert horizon > 5 * found[-1].rate_sum


@pytest.mark.parametrize("damping", [None, 0.3])
def test_influence_in_the_optimisers_coordinates_is_the_dense_solution(damping):
    posterior = trained(ADAM)
    asked = (posterior, tda.Classification(), TRAIN, TEST)
    found = tda.attribute(*asked, method="influence_preconditioned", damping=damping)
    paces = recorded_paces(*asked[:3], SEED)
    train, test = (examples(d, torch.device("cpu"), torch.float64) for d in (TRAIN, TEST))
    for place, pace in enumerate(paces):
        network = posterior.network(SEED, place)
        held, queries = train.take(slice(None)), test.take(slice(None))
        strength = 1 / pace.rate_sum if damping is None else damping
        matrix_PP = gauss_newton(network, held) + strength * torch.diag(pace.scale_P)
        solved_PM = torch.linalg.solve(matrix_PP, loss_gradients(network, queries).T)
        expected_NM = loss_gradients(network, held) @ solved_PM
        np.testing.assert_allclose(found.values[0, place], expected_NM.detach(), rtol=1e-7)


def test_the_scale_of_selected_parameters_is_their_part():
    posterior, place = trained(ADAM), 1
    asked = (posterior, tda.Classification(), TRAIN, TEST)
    found = tda.attribute(*asked, method="influence_preconditioned", parameters="2.*")
    pace = recorded_paces(*asked[:3], SEED)[place]
    network = posterior.network(SEED, place, "2.*")
    train, test = (
        examples(d, torch.device("cpu"), torch.float64).take(slice(None)) for d in (TRAIN, TEST)
    )
    scale_P = pace.scale_P[-10:]  # the last layer's 4 · 2 weights and 2 biases
    matrix_PP = gauss_newton(network, train) + torch.diag(scale_P) / pace.rate_sum
    solved_PM = torch.linalg.solve(matrix_PP, loss_gradients(network, test).T)
    expected_NM = loss_gradients(network, train) @ solved_PM
    np.testing.assert_allclose(found.values[0, place], expected_NM.detach(), rtol=1e-7)


def test_parameters_that_were_not_trained_have_no_scale():
    def half_frozen():
        network = build()
        network[0].requires_grad_(False)
        return network

    asked = (tda.Classification(), TRAIN)
    posterior = tda.train_posterior(half_frozen, *asked, ADAM, seeds=[SEED])
    with pytest.raises(UserError, match="0.weight was not trained"):
        tda.attribute(posterior, *asked, TEST, method="influence_preconditioned", parameters="*")


@pytest.mark.parametrize("recipe", [SGD, ADAM])
def test_damping_by_the_horizon_is_that_of_the_optimiser(recipe):
    posterior = trained(recipe)
    asked = (posterior, tda.Classification(), TRAIN, TEST)
    found = tda.attribute(*asked, damping="horizon")
    for place, pace in enumerate(recorded_paces(*asked[:3], SEED)):
        expected = tda.attribute(*asked, damping=1 / pace.horizon)
        np.testing.assert_allclose(found[:, place], expected[:, place], rtol=1e-9)


def test_horizons_of_other_examples_or_optimisers_are_refused():
    fewer = (X[: N - 1], Y[: N - 1])
    with pytest.raises(UserError, match="had 11 examples, and train has 10"):
        tda.attribute(trained(ADAM), tda.Classification(), fewer, TEST, damping="horizon")
    recipe = tda.Recipe(4, 4, 0.01, clip=1.0, keep=1)
    with pytest.raises(UserError, match="clip=1.0"):
        tda.attribute(trained(recipe), tda.Classification(), TRAIN, TEST, damping="horizon")


def test_a_jacobian_that_does_not_fit_is_refused():
    wide = nn.Sequential(nn.Linear(3, 80_000), nn.Linear(80_000, 2)).double()
    posterior = tda.train_posterior(
        lambda: wide, tda.Classification(), TRAIN, tda.Recipe(1, keep=1), seeds=[0]
    )
    asked = (posterior, tda.Classification(), TRAIN, TEST)
    with pytest.raises(UserError, match="the Jacobian .*raise it"):
        tda.attribute(*asked, method="influence_preconditioned", memory_gb=0.01)
