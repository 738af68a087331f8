"""What is scored has outputs, losses and measurements of single examples, twice the same."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bayestda as tda
from bayestda.errors import UserError
from bayestda.model.examples import Data
from bayestda.model.looks import look, round_trip

N = 6
RECIPE = tda.Recipe(epochs=1, batch_size=3, lr=0.1, keep=1)


def normal(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def data(count=N, y=None):
    y = torch.arange(count) % 3 if y is None else y
    return Data(normal((count, 4), 1), y, np.arange(count))


def plain(num_outputs=3):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(4, num_outputs).double().eval()


class Calling(nn.Module):
    """A linear layer, and a function of its outputs."""

    def __init__(self, function):
        super().__init__()
        self.layer, self.function = plain(), function

    def forward(self, x):
        return self.function(self.layer(x))


def contrastive(f, _y):
    similar = f @ f.T - 1e9 * torch.eye(len(f)).to(f)
    return F.cross_entropy(similar, (torch.arange(len(f)) + 1) % len(f), reduction="none")


def partial_likelihood(f, y):
    later = torch.where(y[None] >= y[:, None], f[None, :, 0], -torch.inf)
    return later.logsumexp(1) - f[:, 0]


def normalised_weights(f, y):
    weight = torch.tensor([0.2, 1, 3]).to(f)[y]
    return F.cross_entropy(f, y, reduction="none") * weight * len(y) / weight.sum()


def pairs_only(f, _y):
    return (f[:1] - f[1]).square().sum(1).expand(len(f)) + f[:, 0] ** 2


LOSSES = {
    "contrastive": contrastive,
    "partial likelihood": partial_likelihood,
    "weights that are normalised": normalised_weights,
    "centred over the batch": lambda f, _y: (f - f.mean(0)).square().sum(1),
    "ranks": lambda f, _y: f[:, 0].argsort().argsort() * f[:, 1],
    "targets [B] against outputs [B, 1]": lambda f, y: (f[:, :1] - y).square().mean(1),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_needs_other_examples_is_refused(name):
    with pytest.raises(UserError, match="the loss of an example depends on the other examples"):
        look(plain(), tda.FromLoss(LOSSES[name]), data(), data(3))


@pytest.mark.parametrize("name", LOSSES)
def test_a_measurement_that_needs_other_examples_is_refused(name):
    objective = tda.Classification(LOSSES[name])
    with pytest.raises(UserError, match="the measurement of an example depends on the other"):
        look(plain(), objective, data(), data(5))


def test_a_loss_that_cannot_be_taken_of_one_example_is_refused():
    with pytest.raises(UserError, match="index 1 is out of bounds"):
        look(plain(), tda.FromLoss(pairs_only), data(), None)


def rarely(f):
    return f * 0 if torch.rand(()) < 0.4 else f


RANDOM = {
    "noise": lambda f: f + torch.randn_like(f),
    "dropout": lambda f: F.dropout(f, 0.5),
    "now and then": rarely,
}


@pytest.mark.parametrize("name", RANDOM)
def test_a_network_that_draws_in_evaluation_mode_is_refused(name):
    torch.manual_seed(3)
    with pytest.raises(UserError, match="other outputs when it is called again with the same"):
        look(Calling(RANDOM[name]), tda.Classification(), data(), None)


MIXING = {
    "centred": lambda f: f - f.mean(0),
    "softmax over the batch": lambda f: f.softmax(0),
    "sorted and not put back": lambda f: f[f[:, 0].argsort()],
    "the best of the batch": lambda f: f * (f[:, :1] == f[:, :1].max()),
    "divided by the largest": lambda f: f / f.abs().max(),
}


@pytest.mark.parametrize("name", MIXING)
def test_a_network_whose_outputs_depend_on_the_batch_is_refused(name):
    with pytest.raises(UserError, match="the network's output for an example depends on the other"):
        look(Calling(MIXING[name]), tda.Classification(), data(), None)


def sorts(f):
    order = f[:, 0].argsort()
    return f[order][order.argsort()]


@pytest.mark.parametrize("count", [1, 2, N])
@pytest.mark.parametrize("function", [lambda f: f, sorts, lambda f: f + 0 * torch.randn_like(f)])
def test_networks_of_single_examples_pass(function, count):
    state = torch.get_rng_state()
    look(Calling(function), tda.Classification(), data(count), data(count))
    assert torch.get_rng_state().equal(state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_rounding_is_not_taken_for_other_examples(dtype):
    network = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 3)).eval()

    class Cast(tda.Classification):
        def output(self, network, x):
            with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
                return network(x.float()).float()

    look(network, Cast(), data(), data(2))


def test_a_round_trip_is_sorted_by_nobody():
    assert round_trip(3).tolist() == [0, 1, 2, 0]
    assert round_trip(1).tolist() == [0, 0]


@pytest.fixture(scope="module")
def trained():
    given = data(), data(3)
    posterior = tda.train_posterior(plain, tda.Classification(), given[0], RECIPE, seeds=[0])
    return posterior, given


CALLS = {
    "attribute": lambda p, o, d: tda.attribute(p, o, *d, method="grad_dot"),
    "trak": lambda p, o, d: tda.attribute(p, o, *d, method="trak", projection=2),
    "self_influence": lambda p, o, d: tda.self_influence(p, o, d[0], method="grad_dot"),
    "leave_one_out": lambda p, o, d: tda.leave_one_out(p, o, *d),
    "replay": lambda p, o, d: tda.replay(p, o, *d),
    "additional step": lambda p, o, d: tda.additional_step(p, o, *d),
    "further_train": lambda p, o, d: tda.further_train(
        p.network(0, 0), o, *d, RECIPE, left_out=[0], seeds=[0]
    ),
    "measure": lambda p, o, d: tda.measure(p, o, d[1]),
    "shifts": lambda p, o, d: tda.shifts(p, o, *d),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_way_to_score_or_measure_looks_first(name, trained):
    posterior, given = trained
    mixing = tda.FromLoss(LOSSES["centred over the batch"])
    with pytest.raises(UserError, match="depends on the other examples of its batch"):
        CALLS[name](posterior, mixing, given)


def test_retraining_on_data_that_change_is_refused(trained):
    class Noisy(torch.utils.data.Dataset):
        def __len__(self):
            return N

        def __getitem__(self, i):
            return torch.randn(4), i % 3

    posterior, (_, test) = trained
    with pytest.raises(UserError, match="not the same when they are read twice"):
        tda.leave_one_out(posterior, tda.Classification(), Noisy(), test)
