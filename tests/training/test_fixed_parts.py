"""What a network holds beside its parameters counts, for each sample by itself."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn

import bayestda as tda
from bayestda.training.horizon import recorded_paces

G = torch.Generator().manual_seed(0)
X, Y = torch.randn(6, 3, generator=G).double(), torch.arange(6) % 3
DATA = (X, Y)
ONE = tda.Classification()
RECIPE = tda.Recipe(epochs=2, batch_size=6, optimizer="sgd", lr=0.1, keep=1, weight_decay=0.0)


class Held(nn.Module):
    """A random part of some kind, below a layer that is trained."""

    def __init__(self, kind):
        super().__init__()
        self.kind, drawn = kind, torch.randn(3, 4)
        if kind == "frozen":
            self.b = nn.Parameter(drawn, requires_grad=False)
        elif kind == "attribute":
            self.b = drawn.double()
        elif kind == "number":
            self.scale = float(torch.rand(()))
        else:
            self.register_buffer("b", drawn, persistent=kind == "buffer")
        self.last = nn.Linear(4 if kind != "number" else 3, 3)

    def forward(self, x):
        return self.last(torch.tanh(x @ self.b) if self.kind != "number" else x * self.scale)


KINDS = ("frozen", "attribute", "number", "buffer", "hidden buffer")


def of_seed(kind, seed):
    torch.manual_seed(seed)
    return Held(kind).double()


def plain(kind, seed, weight_N=None):
    """A run by hand."""
    network = of_seed(kind, seed)
    optimizer = torch.optim.SGD(network.last.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        loss_N = F.cross_entropy(network(X), Y, reduction="none")
        (loss_N if weight_N is None else weight_N * loss_N).mean().backward()
        optimizer.step()
    return network


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def posterior(kind):
    return tda.train_posterior(lambda: Held(kind).double(), ONE, DATA, RECIPE, seeds=[0, 1])


def test_every_run_has_its_own_random_parts(kind, posterior):
    for seed in (0, 1):
        assert torch.allclose(posterior.network(seed, 0)(X), plain(kind, seed)(X), rtol=1e-9)


def test_retraining_replay_and_shifts_have_each_runs_parts(kind, posterior):
    without = torch.ones(6).double()
    without[0] = 0
    loo = tda.leave_one_out(posterior, ONE, DATA, DATA, chunk=8)
    for place, seed in enumerate((0, 1)):
        kept, left = plain(kind, seed), plain(kind, seed, without)
        wanted = F.cross_entropy(left(X), Y, reduction="none") - F.cross_entropy(
            kept(X), Y, reduction="none"
        )
        np.testing.assert_allclose(loo.values[place, 0, 0], wanted.detach(), rtol=1e-6, atol=1e-12)
    exact = tda.replay(posterior, ONE, DATA, DATA, kind="exact")
    moved = tda.shifts(posterior, ONE, DATA, DATA)
    np.testing.assert_allclose(exact.values, moved.values, rtol=1e-9)
    alone = [
        tda.shifts(
            tda.train_posterior(lambda: Held(kind).double(), ONE, DATA, RECIPE, seeds=[seed]),
            ONE, DATA, DATA,
        ).values[0]
        for seed in (0, 1)
    ]  # fmt: skip
    np.testing.assert_allclose(moved.values, np.stack(alone), rtol=1e-9)


def test_networks_in_memory_keep_their_parts(kind):
    networks = [of_seed(kind, seed) for seed in range(3)]
    posterior = tda.Posterior.of_networks({s: [network] for s, network in enumerate(networks)})
    for seed, network in enumerate(networks):
        assert posterior.network(seed, 0)(X).equal(network(X))


def test_parts_that_no_file_holds_and_build_draws_are_refused(kind, tmp_path):
    torch.manual_seed(0)
    network = Held(kind).double()
    save_file(dict(network.last.state_dict(prefix="last.")), tmp_path / "a.safetensors")
    posterior = tda.Posterior.from_checkpoints(
        lambda: Held(kind).double(), {0: [tmp_path / "a.safetensors"]}
    )
    with pytest.raises(tda.UserError, match=r"build makes other values|missing are b"):
        posterior.network(0, 0)


def test_parts_that_build_makes_the_same_each_time_need_no_file(kind, tmp_path):
    network = of_seed(kind, 3)
    kept = {"b"} & network.state_dict().keys() if kind == "buffer" else set()
    tensors = network.state_dict()
    save_file(
        {n: tensors[n] for n in {"last.weight", "last.bias", *kept}}, tmp_path / "a.safetensors"
    )
    posterior = tda.Posterior.from_checkpoints(
        lambda: of_seed(kind, 3), {0: [tmp_path / "a.safetensors"]}
    )
    assert posterior.network(0, 0)(X).equal(network(X))


class Trunk(nn.Module):
    """A frozen trunk of lower precision below a head; the inputs' type is the network's affair."""

    def __init__(self, casts):
        super().__init__()
        self.casts = casts
        self.trunk = nn.Linear(3, 4).bfloat16().requires_grad_(False)
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        return self.head(torch.tanh(self.trunk(x.bfloat16() if self.casts else x)).float())


@pytest.mark.parametrize("casts", [True, False])
def test_a_frozen_trunk_of_lower_precision_rounds_no_targets(casts):
    x, y = X.float(), 300 + torch.linspace(0, 1, 6)
    recipe = tda.Recipe(epochs=1, lr=0.01, keep=1)
    posterior = tda.train_posterior(
        lambda: Trunk(casts), tda.Regression(), (x, y), recipe, seeds=[0]
    )
    network = posterior.network(0, 0)
    output = network(x if casts else x.bfloat16())[:, 0]
    found = tda.measure(posterior, tda.Regression(), (x, y)).values[0, 0]
    np.testing.assert_allclose(found, (output - y).square().detach(), rtol=1e-5)


def test_adams_horizon_is_near_the_measured_one():
    images, digits = load_digits(return_X_y=True)
    data = torch.tensor(images[:300] / 16).float(), torch.tensor(digits[:300])
    recipe = tda.Recipe(epochs=20, batch_size=30, lr=3e-3, keep=1)
    posterior = tda.train_posterior(lambda: nn.Linear(64, 10), ONE, data, recipe, seeds=[1])
    measured = recorded_paces(posterior, ONE, data, 1)[0]
    torch.manual_seed(1)
    network = nn.Linear(64, 10)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3, weight_decay=recipe.weight_decay)
    for epoch in posterior.training.order[1][0]:
        for batch in epoch.split(30):
            optimizer.zero_grad()
            F.cross_entropy(network(data[0][batch]), data[1][batch]).backward()
            optimizer.step()
    moments = [state["exp_avg_sq"] for state in optimizer.state.values()]
    found = tda.adam_horizon(measured.rate_sum, moments, step=200)
    assert measured.horizon / 1.5 < found < 1.5 * measured.horizon
    assert found > 20 * measured.rate_sum
    with pytest.raises(tda.UserError, match="exp_avg_sq of all trained parameters"):
        tda.adam_horizon(1.0, [], step=1)
    with pytest.raises(tda.UserError, match="exp_avg_sq"):
        tda.adam_horizon(1.0, [torch.zeros(3)], step=1)
