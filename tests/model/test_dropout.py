"""Dropout in training: masks of one seed, shared by all members, and none anywhere else."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small_networks import examples
from torch import nn

import bayestda as tda
from bayestda.errors import UserError
from bayestda.model.dropout import draws_masks, dropout_masks
from bayestda.model.losses import Classification
from bayestda.model.parameters import Parameters
from bayestda.retraining.leave_one_out import removals, retrained_losses
from bayestda.training.loop import losses, train
from bayestda.training.members import Members, data_order
from bayestda.training.recipe import Recipe

N, M = 7, 4
RECIPE = Recipe(epochs=2, batch_size=3, lr=0.05, weight_decay=0.0, optimizer="sgd", keep=2)
CPU = torch.device("cpu")
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


@pytest.fixture
def network():
    torch.manual_seed(3)
    layers = nn.Flatten(), nn.Linear(6, 20), nn.Tanh(), nn.Dropout(0.4), nn.Linear(20, 4)
    return nn.Sequential(*layers).double()


@pytest.fixture
def members(network):
    """Four members of one start and order, without example j - 1 for j > 0."""
    theta_1P = Parameters(network).read(network)[None]
    weight_RN = removals(N, range(4)).double()
    return Members(theta_1P, data_order(5, N, RECIPE.epochs), weight_RN, dropout_seed=6)


def trained(network, members, chunk=1, recipe=RECIPE):
    """Parameters of all members after the kept epochs [C R P]."""
    data = examples("mlp", N, seed=1)
    parts = train(network, Classification(), data, recipe, members, chunk=chunk)
    return torch.cat([theta_CRP for _, theta_CRP in parts], dim=1)


def plain_training(network, order_EN, weight_N, seed):
    """One member without the engine; the network's own dropout, with masks of seed and step."""
    data, step, kept = examples("mlp", N, seed=1), 0, []
    optimizer = torch.optim.SGD(network.train().parameters(), lr=RECIPE.lr)
    for order_N in order_EN:
        for batch in order_N.split(RECIPE.batch_size):
            optimizer.zero_grad()
            with dropout_masks(seed, step, CPU):
                output = network(data.x[batch])
            loss_B = F.cross_entropy(output, data.y[batch], reduction="none")
            (loss_B * weight_N[batch]).mean().backward()
            optimizer.step()
            step += 1
        kept.append(Parameters(network).read(network))
    return torch.stack(kept)


def mask(seed, step):
    with dropout_masks(seed, step, CPU):
        return F.dropout(torch.ones(50), 0.5)


@pytest.mark.parametrize("chunk", [1, 3])
def test_a_member_without_an_example_meets_the_masks_of_the_base_run(network, members, chunk):
    theta_CRP = trained(network, members, chunk)
    for member, weight_N in enumerate(members.weight):
        Parameters(network).write(network, members.initial[0])
        expected = plain_training(network, members.order[0], weight_N, seed=6)
        torch.testing.assert_close(theta_CRP[:, member], expected, **CLOSE)


@pytest.mark.parametrize("chunk", [1, 3])
def test_members_with_equal_weights_agree_whatever_their_neighbours(network, members, chunk):
    same = replace(members, weight=torch.ones(4, N, dtype=torch.float64))
    theta_CRP = trained(network, same, chunk)
    torch.testing.assert_close(theta_CRP, theta_CRP[:, :1].expand_as(theta_CRP), **CLOSE)


def test_members_with_different_orders_train_equally_stacked_and_single(network, members):
    order = torch.cat([data_order(seed, N, RECIPE.epochs) for seed in range(4)])
    own = replace(members, order=order)
    torch.testing.assert_close(trained(network, own, 1), trained(network, own, 3), **CLOSE)


@pytest.mark.parametrize("chunk", [1, 3])
def test_the_seed_determines_the_masks(network, members, chunk):
    first, again = trained(network, members, chunk), trained(network, members, chunk)
    other = trained(network, replace(members, dropout_seed=7), chunk)
    assert first.equal(again)
    assert (first - other).abs().max() > 1e-3


def test_every_seed_and_step_has_different_masks():
    masks = [mask(seed, step) for seed in (0, 1, 446) for step in range(20)]
    assert len({tuple(drawn.tolist()) for drawn in masks}) == len(masks)
    assert mask(446, 3).equal(mask(446, 3))


@pytest.mark.parametrize("chunk", [1, 3])
def test_without_a_dropout_seed_there_is_no_dropout(network, members, chunk):
    plain = trained(network, replace(members, dropout_seed=None), chunk)
    network[3].p = 0.0
    torch.testing.assert_close(plain, trained(network, members, chunk), **CLOSE)


@pytest.mark.parametrize("chunk", [1, 3])
def test_the_global_generator_stays_as_it_is(network, members, chunk):
    before = torch.get_rng_state()
    trained(network, members, chunk)
    assert torch.get_rng_state().equal(before)


def test_the_generator_is_restored_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), dropout_masks(1, 2, CPU):
        torch.rand(3)
        raise RuntimeError
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("stacked", [False, True])
def test_scores_never_use_dropout(network, stacked):
    test = examples("mlp", M, seed=2)
    theta_RP = Parameters(network).read(network)[None].repeat(3, 1)
    measured = losses(network.train(), Classification(), theta_RP, test, stacked=stacked)
    expected = F.cross_entropy(network.eval()(test.x), test.y, reduction="none").detach()
    torch.testing.assert_close(measured, expected.expand(3, -1), **CLOSE)


@pytest.mark.parametrize("chunk", [1, 3])
def test_losses_after_training_with_dropout_are_without_it(network, members, chunk):
    data, test = examples("mlp", N, seed=1), examples("mlp", M, seed=2)
    loss_CRM = retrained_losses(
        network, Classification(), RECIPE, members, train_data=data, test_data=test, chunk=chunk
    )
    expected = [losses(network, Classification(), t, test) for t in trained(network, members)]
    torch.testing.assert_close(loss_CRM, torch.stack(expected), **CLOSE)


class Hidden(nn.Module):
    """Dropout that is a function call, or within a module of another kind."""

    def __init__(self, kind, rate):
        super().__init__()
        self.kind, self.rate = kind, rate
        self.first, self.head = nn.Linear(3, 4), nn.Linear(4, 4)
        if kind == "slope":
            self.rectified = nn.RReLU(0.5 - rate, 0.5)
        if kind == "attention":
            self.attended = nn.MultiheadAttention(4, 2, dropout=rate, batch_first=True)
        if kind == "recurrent":
            self.scanned = nn.LSTM(4, 4, 2, dropout=rate, batch_first=True)

    def forward(self, x):
        return self.head(getattr(self, self.kind)(self.first(x)).sum(1))

    def function(self, h):
        return F.dropout(torch.tanh(h), self.rate, self.training)

    def path(self, h):
        if not self.training or not self.rate:
            return h + torch.tanh(h)
        kept_B11 = torch.rand(len(h), 1, 1, dtype=h.dtype) > self.rate
        return h + torch.tanh(h) * kept_B11 / (1 - self.rate)

    def slope(self, h):
        return self.rectified(h)

    def attention(self, h):
        return self.attended(h, h, h)[0]

    def recurrent(self, h):
        return self.scanned(h)[0]


KINDS = ("attention", "function", "path", "recurrent", "slope")
UNSTACKABLE = ("recurrent", "slope")


def hidden(kind, rate=0.4):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Hidden(kind, rate).double()


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_outside_of_dropout_modules_is_on_in_training(kind):
    data, build, seed = examples("mlp", N, seed=1), lambda: hidden(kind), 6
    posterior = tda.train_posterior(build, Classification(), data, RECIPE, seeds=[seed])
    order_EN, ones_N = data_order(seed, N, RECIPE.epochs)[0], torch.ones(N).double()
    expected = plain_training(build(), order_EN, ones_N, seed)
    for place, theta_P in enumerate(expected):
        network = posterior.network(seed, place)
        torch.testing.assert_close(Parameters(network).read(network), theta_P, **CLOSE)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of attention, in evaluation
@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_retraining_meets_the_masks_of_hidden_dropout(kind, chunk):
    data, test, seed = examples("mlp", N, seed=1), examples("mlp", M, seed=2), 6
    build, weight_RN = lambda: hidden(kind), removals(N, range(3)).double()
    posterior = tda.train_posterior(build, Classification(), data, RECIPE, seeds=[seed])
    asked = (posterior, Classification(), data, test)
    if chunk > 1 and kind in UNSTACKABLE:
        with pytest.raises(UserError, match="cannot be stacked.*: give chunk=1"):
            tda.retrained(*asked, weights=weight_RN, chunk=chunk)
        return
    found = tda.retrained(*asked, weights=weight_RN, chunk=chunk)
    for member, weight_N in enumerate(weight_RN):
        theta_CP = plain_training(build(), data_order(seed, N, RECIPE.epochs)[0], weight_N, seed)
        expected = [losses(build(), Classification(), theta_P[None], test) for theta_P in theta_CP]
        measured_CM = torch.from_numpy(found.sel(seed=seed, member=member).values)
        torch.testing.assert_close(measured_CM, torch.cat(expected), **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_are_drawn_where_there_is_a_rate(kind):
    data = examples("mlp", 1, seed=1)
    for rate in (0.0, 1e-6, 0.4):
        drawn = draws_masks(hidden(kind, rate), Classification(), data)
        assert drawn == (rate > 0 or kind == "slope")


def test_looking_for_dropout_leaves_network_and_generator_as_they_are(network):
    normed = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(6).double(), network.eval())
    before, state = copy.deepcopy(normed.state_dict()), torch.get_rng_state()
    assert draws_masks(normed, Classification(), examples("mlp", N, seed=1))
    assert torch.get_rng_state().equal(state)
    assert all(value.equal(before[name]) for name, value in normed.state_dict().items())
    assert not network.training
