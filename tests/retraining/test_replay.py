"""Replays of training runs: equal to differentiating the run, and to retraining where linear."""

import numpy as np
import pytest
import torch
from torch import nn

import bayestda as tda
from bayestda.errors import UserError
from bayestda.retraining.replay import weighted_gradient

N, M, SEEDS = 13, 6, [3, 8]
OPTIMIZERS = {
    "adam": tda.Recipe(4, 5, 0.02, 0.05, "adam", linear_decay=True, keep=2),
    "momentum": tda.Recipe(4, 5, 0.1, 0.05, "sgd", keep=2, momentum=0.8, nesterov=True),
    "adamw": tda.Recipe(4, 5, 0.02, 0.5, "adamw", keep=2),
    "sgd": tda.Recipe(4, 5, 0.3, 0.05, "sgd", keep=2),
}


def normal(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, XT = normal((N, 3), 1), normal((M, 3), 2)
LABELS = ((X[:, 0] + 0.3 * X[:, 1] > 0).long(), (XT[:, 0] > 0).long())
VALUES = (X @ normal((3, 2), 4), XT @ normal((3, 2), 4))
TASKS = {"classes": (tda.Classification(), LABELS), "values": (tda.Regression(), VALUES)}


def linear():
    return nn.Linear(3, 2).double()


def mlp():
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)).double()


def pose(build, optimizer, task="classes"):
    """A posterior, and what it is asked about."""
    objective, (y, yt) = TASKS[task]
    recipe = OPTIMIZERS[optimizer]
    posterior = tda.train_posterior(build, objective, (X, y), recipe, seeds=SEEDS)
    return posterior, objective, (X, y), (XT, yt)


def agreement(scores, truth):
    """Cosine over all scores."""
    a, b = scores.values.ravel(), truth.values.ravel()
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("task", sorted(TASKS))
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_the_exact_replay_is_the_derivative_of_the_run(optimizer, task):
    asked = pose(mlp, optimizer, task)
    step = 1e-5
    weights = np.concatenate([1 + step * np.eye(N), 1 - step * np.eye(N)])
    measured = tda.retrained(*asked, weights=weights)
    up, down = (measured.isel(member=part).values for part in (slice(N), slice(N, None)))
    found = tda.replay(*asked, kind="exact").values
    np.testing.assert_allclose(found, (down - up) / (2 * step), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("task", sorted(TASKS))
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_the_linearised_replay_equals_retraining_of_a_linear_network(optimizer, task):
    """Exactly, but for the measurement, which is first order: so that of outputs is asked."""
    posterior, _, train, (xt, _) = pose(linear, optimizer, task)
    objective = type(TASKS[task][0])(measurement=lambda output_BK, _: output_BK[:, 0])
    asked = (posterior, objective, train, (xt, TASKS[task][1][1]))
    truth, found = tda.leave_one_out(*asked), tda.replay(*asked)
    np.testing.assert_allclose(found.values, truth.values, rtol=1e-6, atol=1e-12)
    for name in ("seed", "checkpoint", "train", "test"):
        np.testing.assert_array_equal(found[name], truth[name])


def test_the_linearised_replay_is_close_to_retraining_where_influence_is_not():
    asked = pose(mlp, "adam")
    truth = tda.leave_one_out(*asked)
    influences = [tda.attribute(*asked, method="influence", damping=d) for d in (0.01, 0.1, 1, 10)]
    found = agreement(tda.replay(*asked), truth)
    assert found > 0.97
    assert found > max(agreement(influence, truth) for influence in influences) + 0.02


def test_the_linearised_replay_tends_to_the_exact_one_for_small_changes_of_a_linear_model():
    asked = pose(linear, "sgd")
    weights = 1 - 1e-4 * np.eye(N)
    both = [tda.replay(*asked, kind=kind, weights=weights) for kind in ("linearised", "exact")]
    np.testing.assert_allclose(both[0].values, both[1].values, rtol=1e-3, atol=1e-9)


def test_members_with_other_weights_are_groups():
    asked = pose(mlp, "adam")
    groups = np.zeros((1, N), dtype=bool)
    groups[0, [2, 5, 6]] = True
    found = tda.replay(*asked, weights=1 - groups.astype(float))
    assert found.dims == ("seed", "checkpoint", "member", "test")
    truth = tda.leave_group_out(*asked, groups=groups)
    assert agreement(found, truth) > 0.95
    everything = tda.replay(*asked, weights=np.ones((1, N)))
    np.testing.assert_allclose(everything.values, 0, atol=1e-12)


@pytest.mark.parametrize("kind", ["linearised", "exact"])
def test_a_parameter_whose_gradient_is_zero_gives_numbers(kind):
    """Adam divides by the root of a moment that is 0."""
    posterior, objective, (x, y), (xt, yt) = pose(mlp, "adam")
    silent = x.clone()
    silent[:, 2] = 0
    recipe = tda.Recipe(4, 5, 0.02, 0.0, "adam", keep=2)
    posterior = tda.train_posterior(mlp, objective, (silent, y), recipe, seeds=[3])
    found = tda.replay(posterior, objective, (silent, y), (xt, yt), kind=kind)
    assert np.isfinite(found.values).all()
    assert agreement(found, tda.leave_one_out(posterior, objective, (silent, y), (xt, yt))) > 0.9


def test_runs_that_cannot_be_replayed_are_refused():
    posterior, objective, (x, y), test = pose(mlp, "adam")
    with pytest.raises(UserError, match="kind='other' is unknown: choose one of linearised, exact"):
        tda.replay(posterior, objective, (x, y), test, kind="other")
    with pytest.raises(UserError, match="does not arrive at its checkpoint"):
        tda.replay(posterior, objective, (x.flip(0) * 2, y), test)
    with pytest.raises(UserError, match="one column per training example, 13"):
        tda.replay(posterior, objective, (x, y), test, weights=np.ones((2, 5)))
    loaded = tda.Posterior.of_networks({0: [mlp()]})
    with pytest.raises(UserError, match=r"needs a posterior from tda.train_posterior"):
        tda.replay(loaded, objective, (x, y), test)
    dropping = lambda: nn.Sequential(nn.Dropout(0.5), linear())  # noqa: E731
    recipe = OPTIMIZERS["adam"]
    posterior = tda.train_posterior(dropping, objective, (x, y), recipe, seeds=[3])
    with pytest.raises(UserError, match="dropout cannot be replayed"):
        tda.replay(posterior, objective, (x, y), test)


def probabilities():
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2), nn.Softmax(1)).double()


def log_loss(f, y):
    return -f.log().gather(1, y[:, None])[:, 0]


def test_outputs_that_leave_the_losss_domain_are_refused():
    recipe = tda.Recipe(epochs=4, batch_size=4, lr=1.0, optimizer="adam")
    objective, train = tda.FromLoss(log_loss), (X, LABELS[0])
    posterior = tda.train_posterior(probabilities, objective, train, recipe, seeds=SEEDS)
    with pytest.raises(UserError, match="the loss of linearised outputs is not finite, .* logits"):
        tda.replay(posterior, objective, train, train)


def test_an_example_without_weight_counts_for_nothing_whatever_its_loss():
    output_RBK = torch.tensor([[[0.4, 0.6], [0.5, 0.5]], [[0.3, 0.7], [0.0, 1.0]]]).double()
    y_B, weight_RB = torch.tensor([1, 0]), torch.tensor([[1.0, 1.0], [1.0, 0.0]]).double()
    objective = tda.FromLoss(log_loss)
    found_RBK = weighted_gradient(objective, output_RBK, y_B, weight_RB)
    wanted = torch.tensor([[[0, -1 / 0.6], [-2, 0]], [[0, -1 / 0.7], [0, 0]]]).double()
    torch.testing.assert_close(found_RBK, wanted)
