"""Training runs of networks that vmap or forward mode does not go through, or wrongly."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from odd_networks import ODD, odd, odd_examples
from torch.func import functional_call

import bayestda as tda
from bayestda.model.parameters import Parameters, private_copy
from bayestda.training.stacking import stacks

RECIPE = tda.Recipe(epochs=2, batch_size=3, lr=0.1, optimizer="sgd", weight_decay=0.0, keep=1)
N, M = 6, 2


def posed(name):
    train, test = odd_examples(name, N, seed=1), odd_examples(name, M, seed=2)
    posterior = tda.train_posterior(
        lambda: odd(name), tda.Classification(), (train.x, train.y), RECIPE, seeds=[1, 2]
    )
    return posterior, (train.x, train.y), (test.x, test.y)


def run(posterior, train, test, seed, weight_N):
    """Losses [M] after a run with weights, as one would write it."""
    network = private_copy(odd_template(posterior))
    layout = Parameters(network)
    theta_P = posterior.training.initial[seed]
    loss = lambda t, x, y: F.cross_entropy(  # noqa: E731
        functional_call(network, layout.split(t), (x,)), y, reduction="none"
    )
    for order in posterior.training.order[seed][0]:
        for batch in order.split(RECIPE.batch_size):
            theta_P = theta_P.detach().requires_grad_()
            total = (weight_N[batch] * loss(theta_P, train[0][batch], train[1][batch])).mean()
            theta_P = theta_P - RECIPE.lr * torch.autograd.grad(total, theta_P)[0]
    return loss(theta_P, *test).detach()


def odd_template(posterior):
    return posterior.network(posterior.seeds[0], 0)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", ODD)
def test_shifts_are_differences_of_runs_with_other_weights(name):
    posterior, train, test = posed(name)
    step, one_N = 1e-5, torch.ones(N, dtype=torch.float64)
    found = tda.shifts(posterior, tda.Classification(), train, test).values[:, 0]
    removed = 3  # one example is enough, and the last run, as the first may be right by itself
    for place, seed in enumerate(posterior.seeds):
        moved_N = step * torch.eye(N, dtype=torch.float64)[removed]
        pair = [run(posterior, train, test, seed, one_N + own_N) for own_N in (-moved_N, moved_N)]
        wanted = (pair[0] - pair[1]) / (2 * step)
        np.testing.assert_allclose(found[place, removed], wanted, rtol=1e-5, atol=1e-8)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", ODD)
def test_further_training_is_the_same_one_by_one_and_by_default(name, monkeypatch):
    # As on a GPU, where all networks are stacked by default.
    monkeypatch.setattr("bayestda.retraining.gold_standard.chunk_for", lambda *_: 3)
    posterior, train, test = posed(name)
    network = odd_template(posterior)
    asked = dict(left_out=[0, 1], seeds=[0])
    found, wanted = (
        tda.further_train(network, tda.Classification(), train, test, RECIPE, **asked, **chunk)
        for chunk in ({}, {"chunk": 1})
    )
    np.testing.assert_allclose(found["loss"], wanted["loss"], rtol=1e-9)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", ["lstm", "experts", "sparse bag"])
def test_runs_are_measured_one_by_one_where_they_cannot_be_stacked(name):
    posterior, _, test = posed(name)
    found = tda.measure(posterior, tda.Classification(), test).values[:, 0]
    for place, seed in enumerate(posterior.seeds):
        network = posterior.network(seed, 0)
        wanted = F.cross_entropy(network(test[0]), test[1], reduction="none").detach()
        np.testing.assert_allclose(found[place], wanted, rtol=1e-12)


def test_a_chunk_of_copies_that_cannot_be_stacked_is_refused():
    posterior, train, test = posed("experts")
    pair = [  # of one run, whose members see the same examples
        tda.leave_one_out(posterior, tda.Classification(), train, test, chunk=chunk)
        for chunk in (1, 2)
    ]
    np.testing.assert_allclose(*pair, rtol=1e-9, atol=1e-12)
    with pytest.raises(tda.UserError, match="give chunk=1"):
        tda.further_train(
            odd_template(posterior), tda.Classification(), train, test, RECIPE, chunk=2,
            left_out=[0], seeds=[0],
        )  # fmt: skip


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_sparse_gradients_train_as_dense_ones(optimizer):
    data = odd_examples("sparse embedding", N, seed=1)
    recipe = tda.Recipe(epochs=2, batch_size=3, lr=0.1, optimizer=optimizer, keep=1)

    def build(sparse):
        network = odd("sparse embedding")
        network.table.sparse = sparse
        return network

    pair = [
        tda.train_posterior(
            lambda own=sparse: build(own), tda.Classification(), (data.x, data.y), recipe, seeds=[1]
        ).network(1, 0)
        for sparse in (True, False)
    ]
    network = odd("sparse embedding")
    private_copy(network)
    assert network.table.sparse  # the user's network is not changed
    for found, wanted in zip(*(network.parameters() for network in pair), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize(
    "name, expected", [("attention", True), ("weight norm", True), ("experts", False)]
)
def test_networks_are_stacked_where_vmap_goes_through(name, expected):
    network, data = odd(name), odd_examples(name, 4, seed=1)
    assert stacks(network, tda.Classification(), data, shared=False) == expected


class Wrong(torch.autograd.Function):
    """A function that is wrong under vmap for all but the first copy."""

    generate_vmap_rule = False

    @staticmethod
    def forward(x):
        return 2 * x

    @staticmethod
    def setup_context(context, inputs, output):
        pass

    @staticmethod
    def backward(_context, grad_output):
        return 2 * grad_output

    @staticmethod
    def vmap(info, _in_dims, x):
        return 2 * x * torch.eye(info.batch_size, 1).reshape(-1, *[1] * (x.ndim - 1)), 0


def test_networks_that_are_wrong_under_vmap_are_not_stacked():
    class Network(torch.nn.Linear):
        def forward(self, x):
            return Wrong.apply(super().forward(x.mean(1)))

    data = odd_examples("wrong", 4, seed=1)
    assert not stacks(Network(3, 3).double(), tda.Classification(), data)
