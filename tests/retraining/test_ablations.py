"""Replays with an idea left out: retraining without it, where the network is linear."""

import numpy as np
import pytest
import torch
from test_replay import LABELS, VALUES, XT, M, N, X
from torch import nn

import bayestda as tda
from bayestda.errors import UserError
from bayestda.retraining.ablations import ABLATIONS, WithoutCurvature, WithoutDecay

BETAS, EPSILON, SEED = (0.9, 0.999), 1e-8, 3
RECIPE = tda.Recipe(3, 5, 0.02, 0.05, "adam", keep=1)


def first_output(output_BK, _):
    return output_BK[:, 0]


def build():
    return nn.Linear(3, 2, bias=False).double()


def posed(recipe, objective=None, y=LABELS[0]):
    objective = objective or tda.Classification(measurement=first_output)
    posterior = tda.train_posterior(build, objective, (X, y), recipe, seeds=[SEED])
    return posterior, objective, (X, y), (XT, torch.zeros(M, dtype=torch.long))


def gradients(weight_N, theta_KD, batch_B, decay):
    """Of the mean weighted cross-entropy of W x, with weight decay, by hand."""
    x_BD = X[batch_B]
    residual_BK = (x_BD @ theta_KD.T).softmax(-1) - nn.functional.one_hot(LABELS[0][batch_B], 2)
    return (weight_N[batch_B, None] * residual_BK).T @ x_BD / len(batch_B) + decay


def plain(recipe, posterior, weight_N, left_out):
    """θ [K D] of a member that is trained without an idea, beside its base run."""
    training = posterior.training
    base = member = training.initial[SEED].reshape(2, 3)
    m0 = m1 = v = torch.zeros_like(base)
    count = 0
    for order_N in training.order[SEED][0]:
        for batch_B in order_N.split(recipe.batch_size):
            count += 1
            bias1, bias2 = (1 - beta**count for beta in BETAS)
            own_decay = base if left_out == "weight decay" else member
            at = base if left_out == "curvature" else member
            g0 = gradients(torch.ones(N), base, batch_B, recipe.weight_decay * base)
            g1 = gradients(weight_N, at, batch_B, recipe.weight_decay * own_decay)
            m0, m1 = (BETAS[0] * m + (1 - BETAS[0]) * g for m, g in ((m0, g0), (m1, g1)))
            v = BETAS[1] * v + (1 - BETAS[1]) * g0**2
            scale = 1 / ((v / bias2).sqrt() + EPSILON)
            step0, step1 = m0 / bias1 * scale, m1 / bias1 * scale
            if left_out == "Adam's moments":
                step1 = step0 + (g1 - g0) * (g0**2 * scale).sum() / (g0**2).sum()
            base, member = base - recipe.lr * step0, member - recipe.lr * step1
    return base, member


@pytest.mark.parametrize("left_out", ["Adam's scale response", "Adam's moments"])
def test_ablations_follow_their_optimiser_exactly_if_the_network_is_linear(left_out):
    asked = posed(RECIPE)
    found = tda.replay(*asked, kind=ABLATIONS[left_out]).values[0, 0]
    for j in range(N):
        weight_N = torch.ones(N)
        weight_N[j] = 0
        base, member = plain(RECIPE, asked[0], weight_N, left_out)
        expected_M = XT @ (member - base)[0]
        np.testing.assert_allclose(found[j], expected_M, rtol=1e-6, atol=1e-12)


def test_without_curvature_gradient_descent_adds_up_the_gradients_along_the_run():
    recipe = tda.Recipe(3, 5, 0.3, 0.0, "sgd", keep=1)
    asked = posed(recipe)
    found = tda.replay(*asked, kind=WithoutCurvature).values[0, 0]
    theta, expected = asked[0].training.initial[SEED].reshape(2, 3), torch.zeros(N, M)
    for order_N in asked[0].training.order[SEED][0]:
        for batch_B in order_N.split(recipe.batch_size):
            for j in batch_B:
                own = gradients(torch.ones(N), theta, j[None], 0) / len(batch_B)
                expected[j] += recipe.lr * XT @ own[0]
            theta = theta - recipe.lr * gradients(torch.ones(N), theta, batch_B, 0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


def test_without_decay_of_the_difference_gradient_descent_shrinks_nothing():
    """For regression on one input the difference of two runs is known: it decays with η ω."""
    recipe = tda.Recipe(3, N, 0.1, 0.5, "sgd", keep=1)
    asked = posed(recipe, tda.Regression(measurement=first_output), VALUES[0])
    found = tda.replay(*asked, kind=WithoutDecay).values[0, 0]
    eye = torch.eye(3, dtype=torch.float64)
    for j in range(N):
        kept = torch.ones(N, dtype=torch.float64)
        kept[j] = 0
        base = asked[0].training.initial[SEED].reshape(2, 3)
        shift = torch.zeros_like(base)
        for _ in range(recipe.epochs):
            error = X @ (base + shift).T - VALUES[0]
            change = ((kept[:, None] * error).T @ X - (X @ base.T - VALUES[0]).T @ X) / N
            base_step = (X @ base.T - VALUES[0]).T @ X / N + recipe.weight_decay * base
            shift, base = shift - recipe.lr * change, base @ eye - recipe.lr * base_step
        np.testing.assert_allclose(found[j], XT @ shift[0], rtol=1e-6, atol=1e-12)


def test_every_ablation_changes_the_answer():
    asked = posed(RECIPE)
    whole = tda.replay(*asked).values
    for name, kind in ABLATIONS.items():
        change = np.abs(tda.replay(*asked, kind=kind).values - whole).max() / np.abs(whole).max()
        assert change > 1e-3, name


def test_adams_ideas_are_only_left_out_of_adam():
    asked = posed(tda.Recipe(3, 5, 0.3, 0.0, "sgd", keep=1))
    with pytest.raises(UserError, match="needs runs with optimizer='adam'"):
        tda.replay(*asked, kind=ABLATIONS["Adam's moments"])
