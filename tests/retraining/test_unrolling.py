"""Shifts: equal to differentiating the run, on the scale of influence functions and retraining."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

import bayestda as tda
from bayestda.errors import UserError
from bayestda.retraining import replay
from bayestda.scores import estimators

N, M, SEEDS = 11, 4, [3, 8, 5]
RECIPES = {
    "sgd": tda.Recipe(3, 4, 0.3, 0.05, "sgd", linear_decay=True, keep=2),
    "momentum": tda.Recipe(3, 4, 0.1, 0.05, "sgd", keep=2, momentum=0.8),
    "nesterov": tda.Recipe(3, 4, 0.1, 0.05, "sgd", keep=2, momentum=0.8, nesterov=True),
    "adam": tda.Recipe(3, 4, 0.02, 0.05, "adam", linear_decay=True, keep=2),
    "adamw": tda.Recipe(3, 4, 0.02, 0.5, "adamw", keep=2),
}


def normal(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, XT = normal((N, 3), 1), normal((M, 3), 2)
Y, YT = (X[:, 0] + 0.3 * X[:, 1] > 0).long(), (XT[:, 0] > 0).long()
TRAIN, QUERIES, OBJECTIVE = (X, Y), (XT, YT), tda.Classification()


def mlp():
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def pose(optimizer, seeds=SEEDS, chunk=1):
    return tda.train_posterior(mlp, OBJECTIVE, TRAIN, RECIPES[optimizer], seeds=seeds, chunk=chunk)


def differentiated_run(recipe, seed):
    """−dm/dw [C N M] through a plain training loop, by autograd; m is the margin of two classes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = mlp()
    names = [name for name, _ in network.named_parameters()]
    theta = [p.detach() for p in network.parameters()]
    weight_N = torch.ones(N, dtype=torch.float64, requires_grad=True)
    first, second = ([torch.zeros_like(p) for p in theta] for _ in range(2))
    order, step, kept = torch.Generator().manual_seed(seed), 0, []
    total = recipe.epochs * -(-N // recipe.batch_size)
    orders = [torch.randperm(N, generator=order) for _ in range(recipe.epochs)]
    for epoch in range(recipe.epochs):
        for batch in orders[epoch].split(recipe.batch_size):
            rate = recipe.lr * (1 - step / total if recipe.linear_decay else 1)
            step += 1
            leaves = [p if p.requires_grad else p.requires_grad_() for p in theta]
            output = functional_call(network, dict(zip(names, leaves, strict=True)), (X[batch],))
            losses = nn.functional.cross_entropy(output, Y[batch], reduction="none")
            loss = (weight_N[batch] * losses).sum() / len(batch)
            gradients = torch.autograd.grad(loss, leaves, create_graph=True)
            if recipe.optimizer == "adamw":
                theta = [p * (1 - rate * recipe.weight_decay) for p in theta]
            else:
                gradients = [
                    g + recipe.weight_decay * p for g, p in zip(gradients, theta, strict=True)
                ]
            if recipe.optimizer.startswith("adam"):
                first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
                second = [0.999 * v + 0.001 * g**2 for v, g in zip(second, gradients, strict=True)]
                directions = [
                    m / (1 - 0.9**step) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
                    for m, v in zip(first, second, strict=True)
                ]
            else:
                first = [recipe.momentum * m + g for m, g in zip(first, gradients, strict=True)]
                directions = first
                if recipe.nesterov:
                    pairs = zip(first, gradients, strict=True)
                    directions = [g + recipe.momentum * m for m, g in pairs]
            theta = [p - rate * u for p, u in zip(theta, directions, strict=True)]
        if epoch >= recipe.epochs - recipe.keep:
            output = functional_call(network, dict(zip(names, theta, strict=True)), (XT,))
            margin = (output[:, 1] - output[:, 0]) * (2 * YT - 1)
            rows = [torch.autograd.grad(m, weight_N, retain_graph=True)[0] for m in margin]
            kept.append(-torch.stack(rows, dim=1))
    return torch.stack(kept).detach().numpy()


@pytest.mark.parametrize("optimizer", sorted(RECIPES))
def test_shifts_are_the_derivative_of_the_whole_run(optimizer):
    posterior = pose(optimizer)
    found = tda.shifts(posterior, OBJECTIVE, TRAIN, QUERIES, measurement="margin")
    assert found.dims == ("seed", "checkpoint", "train", "test")
    assert found["checkpoint"].values.tolist() == [2, 3]
    for seed in SEEDS:
        expected = differentiated_run(RECIPES[optimizer], seed)
        np.testing.assert_allclose(found.sel(seed=seed).values, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", sorted(RECIPES))
def test_the_exact_replay_is_the_shift_whatever_is_stacked(optimizer, monkeypatch):
    monkeypatch.setattr(replay, "TOGETHER", 4)
    posterior = pose(optimizer)
    found = tda.shifts(posterior, OBJECTIVE, TRAIN, QUERIES)
    replayed = tda.replay(posterior, OBJECTIVE, TRAIN, QUERIES, kind="exact")
    np.testing.assert_allclose(found.values, replayed.values, rtol=1e-8, atol=1e-12)
    half = tda.replay(posterior, OBJECTIVE, TRAIN, QUERIES, kind="exact", weights=1 - np.eye(N) / 2)
    np.testing.assert_allclose(half.values, replayed.values / 2, rtol=1e-8, atol=1e-12)


def test_blocks_of_runs_and_examples_change_nothing():
    posterior = pose("adam")
    whole = tda.shifts(posterior, OBJECTIVE, TRAIN, QUERIES)
    for chunk in (1, 4, 25):
        parts = tda.shifts(posterior, OBJECTIVE, TRAIN, QUERIES, chunk=chunk)
        np.testing.assert_allclose(parts.values, whole.values, rtol=1e-10, atol=1e-14)


def test_shifts_of_a_group_are_the_sum_over_its_members_in_each_run():
    posterior, groups = pose("adam"), np.zeros((2, N), dtype=bool)
    groups[0, [1, 4, 7]], groups[1, [0, 1]] = True, True
    asked = (posterior, OBJECTIVE, TRAIN, QUERIES)
    for settings in ({}, {"method": "influence", "damping": 0.1}):
        each, found = tda.shifts(*asked, **settings), tda.shifts(*asked, groups=groups, **settings)
        assert found.dims == ("seed", "checkpoint", "group", "test")
        expected = np.stack([each.values[:, :, rows].sum(2) for rows in groups], axis=2)
        np.testing.assert_allclose(found.values, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("objective", [tda.Regression(), tda.FromLoss(
    lambda f, y: nn.functional.smooth_l1_loss(f[:, 0], y, reduction="none"))])  # fmt: skip
def test_other_losses_and_convolutions_unroll(objective):
    def build():
        network = [nn.Conv1d(1, 2, 2), nn.GELU(), nn.Flatten(), nn.Linear(4, 1)]
        return nn.Sequential(*network).double()

    data = (X[:, None], X[:, 0] * X[:, 1])
    posterior = tda.train_posterior(build, objective, data, RECIPES["sgd"], seeds=[1, 2])
    found = tda.shifts(posterior, objective, data, data)
    step = 1e-5
    weights = np.concatenate([1 + step * np.eye(N), 1 - step * np.eye(N)])
    measured = tda.retrained(posterior, objective, data, data, weights=weights).values
    up, down = measured[:, :, :N], measured[:, :, N:]
    np.testing.assert_allclose(found.values, (down - up) / (2 * step), rtol=1e-4, atol=1e-7)


def slope(x, y):
    return float((x.values * y.values).sum() / (x.values**2).sum())


def test_at_convergence_of_a_convex_problem_unrolling_is_the_influence_function_over_n():
    """Mlodozeniec et al. 2025: with the recursion as it is, r tends to H⁻¹∇ℓ/N."""
    data = (X, X @ normal((3,), 5) + normal((N,), 6))
    ridge = 0.1
    recipe = tda.Recipe(400, N, 0.1, ridge, "sgd", keep=1)
    build = lambda: nn.Linear(3, 1).double()  # noqa: E731
    asked = (
        tda.train_posterior(build, tda.Regression(), data, recipe, seeds=[1, 2]),
        tda.Regression(), data, (XT, XT[:, 0]),
    )  # fmt: skip
    found = tda.shifts(*asked)
    for method in ("influence", "influence_hessian"):
        influence = tda.shifts(*asked, method=method, damping=ridge)
        np.testing.assert_allclose(slope(influence, found), 1, atol=0.002)
        np.testing.assert_allclose(found.values, influence.values, rtol=0.01, atol=1e-6)


def test_a_logistic_regression_trained_in_batches_has_slope_one_too():
    recipe = tda.Recipe(200, 4, 0.4, 0.05, "sgd", linear_decay=True, keep=1)
    build = lambda: nn.Linear(3, 2).double()  # noqa: E731
    posterior = tda.train_posterior(build, OBJECTIVE, TRAIN, recipe, seeds=[1])
    asked = (posterior, OBJECTIVE, TRAIN, QUERIES)
    influence = tda.shifts(*asked, method="influence_hessian", damping=0.05)
    # The last batch of an epoch has 3 examples, which then count more: 1/3 in place of 1/4.
    assert abs(slope(influence, tda.shifts(*asked)) - 1) < 0.02


@pytest.mark.parametrize(("count", "removed"), [(60, 0.05), (400, 1.0)])
def test_small_removals_of_a_smooth_network_shift_as_predicted(count, removed):
    """A twentieth of one example of 60, or one example of 400."""
    x, few = normal((count, 3), 11), 15
    data = (x, torch.sin(2 * x[:, 0]) + 0.5 * x[:, 1] + 0.1 * normal((count,), 12))
    build = lambda: nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 1)).double()  # noqa: E731
    recipe = tda.Recipe(1200 // count, 20, 0.05, 1e-3, "sgd", keep=1)
    posterior = tda.train_posterior(build, tda.Regression(), data, recipe, seeds=range(6), chunk=6)
    asked = (posterior, tda.Regression(), data, (x[:10] + 0.3, data[1][:10]))
    predicted = removed * tda.shifts(*asked, measurement="output").isel(train=slice(few))
    outputs = tda.Regression(measurement=lambda output_BK, _: output_BK[:, 0])
    weights = np.ones((1 + few, count))
    weights[1:] -= removed * np.eye(count)[:few]
    again = tda.retrained(posterior, outputs, *asked[2:], weights=weights, chunk=96)
    measured = again.isel(member=slice(1, None)) - again.isel(member=0)
    assert abs(slope(predicted, measured) - 1) < 0.1
    assert np.corrcoef(predicted.values.ravel(), measured.values.ravel())[0, 1] > 0.99


def test_a_measurement_is_a_name_or_a_function():
    posterior = pose("adam")
    outputs = torch.stack(
        [posterior.network(seed, 1)(XT).detach() for seed in SEEDS]
    )  # at the last checkpoint
    right = outputs.log_softmax(-1)[:, torch.arange(M), YT]
    found = {
        name: tda.measure(posterior, OBJECTIVE, QUERIES, measurement=name).values[:, 1]
        for name in ("loss", "probability", "margin", None)
    }
    np.testing.assert_allclose(found["loss"], -right)
    np.testing.assert_allclose(found[None], -right)
    np.testing.assert_allclose(found["probability"], right.exp())
    np.testing.assert_allclose(found["margin"], right - (-right.exp()).log1p())
    own = tda.measure(posterior, OBJECTIVE, QUERIES, measurement=lambda output, _: output[:, 0])
    np.testing.assert_allclose(own.values[:, 1], outputs[:, :, 0])
    assert own.dims == ("seed", "checkpoint", "test")
    one_by_one = tda.measure(posterior, OBJECTIVE, QUERIES, chunk=1)
    np.testing.assert_allclose(one_by_one.values[:, 1], -right)
    with pytest.raises(UserError, match="measurement='accuracy' is unknown: choose one of loss"):
        tda.measure(posterior, OBJECTIVE, QUERIES, measurement="accuracy")
    with pytest.raises(UserError, match="network with one output, not 2"):
        tda.measure(posterior, OBJECTIVE, QUERIES, measurement="output")


def test_scores_with_a_scale_become_shifts():
    posterior = pose("adam")
    asked = (posterior, OBJECTIVE, TRAIN, QUERIES)
    scores = tda.attribute(*asked, method="flow")
    np.testing.assert_allclose(tda.as_shifts(scores).values, scores.values / N)
    np.testing.assert_allclose(tda.shifts(*asked, method="flow").values, scores.values / N)
    loo = tda.leave_one_out(*asked)
    np.testing.assert_array_equal(tda.as_shifts(loo).values, loo.values)
    ekfac = tda.shifts(*asked, method="influence_ekfac", damping=0.1)
    exact = tda.shifts(*asked, method="influence", damping=0.1)
    assert np.corrcoef(ekfac.values.ravel(), exact.values.ravel())[0, 1] > 0.8


def test_every_method_has_a_scale_or_says_why_it_has_none():
    known = {estimators.CHANGE, estimators.CHANGE_TIMES_N}
    without = [entry for entry in tda.METHODS.values() if entry.unit not in known]
    assert all("library does not know" not in entry.advice for entry in without)
    assert tda.METHODS["loo"].unit == estimators.CHANGE
    assert tda.METHODS["flow"].unit == estimators.CHANGE_TIMES_N


@pytest.mark.parametrize("method", ["generalised", "near_stationary", "proposition_1"])
def test_influence_away_from_a_minimum_has_the_scale_of_influence(method):
    """Where curvature is nothing beside the damping, all of them are Grad-Dot over it."""
    posterior, damping = pose("adam"), 1e6
    asked = (posterior, OBJECTIVE, TRAIN, QUERIES)
    plain = tda.shifts(*asked, method="influence", damping=damping)
    np.testing.assert_allclose(
        tda.shifts(*asked, method=method, damping=damping), plain, rtol=1e-3, atol=1e-12
    )


def test_preconditioned_influence_has_the_scale_of_influence():
    posterior = pose("sgd")
    asked = (posterior, OBJECTIVE, TRAIN, QUERIES)
    plain = tda.shifts(*asked, method="influence", damping=0.1)
    preconditioned = tda.shifts(*asked, method="influence_preconditioned", damping=0.1)
    np.testing.assert_allclose(preconditioned, plain, rtol=1e-6, atol=1e-9)


def test_early_in_training_grad_dot_times_its_scale_is_the_shift():
    recipe = tda.Recipe(2, N, 1e-4, 0.0, "sgd", keep=1)
    posterior = tda.train_posterior(mlp, OBJECTIVE, TRAIN, recipe, seeds=SEEDS)
    asked = (posterior, OBJECTIVE, TRAIN, QUERIES)
    scores = tda.attribute(*asked, method="grad_dot")
    shifts = tda.as_shifts(scores, scale=posterior.horizons[0] / N)
    np.testing.assert_allclose(shifts.values, tda.shifts(*asked).values, rtol=2e-3, atol=1e-9)


@pytest.mark.parametrize(("method", "why"), [
    ("grad_cos", "gradients are normalised"), ("trak", "have no unit"),
    ("representer", "share out an output"), ("ats", "one more step"),
    ("grad_dot", "give scale=Σ_t η_t / N"), ("tracin", "how many steps"), ("mine", "does not know"),
])  # fmt: skip
def test_scores_without_a_scale_are_refused_with_the_reason(method, why):
    posterior = pose("sgd")
    scores = tda.attribute(posterior, OBJECTIVE, TRAIN, QUERIES, method="grad_dot")
    with pytest.raises(UserError, match=why):
        tda.as_shifts(scores.assign_attrs(method=method))
    if method in tda.METHODS:
        with pytest.raises(UserError, match=why):
            tda.shifts(posterior, OBJECTIVE, TRAIN, QUERIES, method=method)


def test_shifts_that_cannot_be_computed_are_refused():
    posterior = pose("sgd")
    asked = (OBJECTIVE, TRAIN, QUERIES)
    with pytest.raises(UserError, match="needs a posterior from tda.train_posterior"):
        tda.shifts(tda.Posterior.of_networks({0: [mlp()]}), *asked)
    with pytest.raises(UserError, match="does not arrive at its checkpoint"):
        tda.shifts(posterior, OBJECTIVE, (X.flip(0) * 2, Y), QUERIES)
    with pytest.raises(UserError, match="it has no settings"):
        tda.shifts(posterior, *asked, damping=0.1)
    with pytest.raises(UserError, match=r"groups must be booleans \[G, 11\]"):
        tda.shifts(posterior, *asked, groups=np.ones((2, 5), dtype=bool))
    influence = tda.attribute(posterior, *asked, damping=0.1)
    with pytest.raises(UserError, match="leave scale= out"):
        tda.as_shifts(influence, scale=2.0)
    groups = np.ones((1, N), dtype=bool)
    with pytest.raises(UserError, match=r"tda.group_scores\(tda.as_shifts"):
        tda.as_shifts(tda.group_scores(influence, groups).assign_attrs(influence.attrs))
    dropping = lambda: nn.Sequential(nn.Dropout(0.5), mlp())  # noqa: E731
    dropped = tda.train_posterior(dropping, OBJECTIVE, TRAIN, RECIPES["sgd"], seeds=[3])
    with pytest.raises(UserError, match="dropout cannot be unrolled"):
        tda.shifts(dropped, *asked)
    clipped = replace(RECIPES["sgd"], clip=1.0)
    posterior = tda.train_posterior(mlp, OBJECTIVE, TRAIN, clipped, seeds=[3])
    with pytest.raises(UserError, match="clip=1.0 cannot be replayed"):
        tda.shifts(posterior, *asked)
    with pytest.raises(UserError, match="momentum=0.9 applies only to optimizer='sgd'"):
        tda.train_posterior(mlp, OBJECTIVE, TRAIN, tda.Recipe(3, momentum=0.9), seeds=[1])
