"""Samples are copies: nothing that is done with a posterior changes a network that someone has."""

import copy

import numpy as np
import pytest
import reference
import torch
from safetensors.torch import save_file
from torch import nn

import bayestda as tda
from bayestda.model.examples import Data

N = 6
SETTINGS = {"method": "grad_dot"}
GENERATOR = torch.Generator().manual_seed(1)
X = torch.randn(N, 4, generator=GENERATOR, dtype=torch.float64)
Y = torch.arange(N) % 3
DATA = Data(X, Y, np.arange(N))


def normed(seed, frozen=True):
    """A trunk with batch norm, statistics and all of this seed's own, and a head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trunk = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh()).double()
        network = nn.Sequential(trunk, nn.Linear(5, 3).double())
        for _ in range(20):
            network(2 * X + seed)
    trunk.requires_grad_(not frozen)
    return network.eval()


class Tied(nn.Module):
    """Frozen layers of one weight, and a head."""

    def __init__(self, seed):
        super().__init__()
        head = normed(seed)[1]
        self.one, self.two = (nn.Linear(4, 4, bias=False).double() for _ in range(2))
        self.two.weight, self.head = self.one.weight.requires_grad_(False), nn.Linear(4, 3).double()
        with torch.no_grad():
            self.one.weight.copy_(head.weight.T[:4, :1] @ head.weight[:1, :4])

    def forward(self, x):
        return self.head(self.two(self.one(x).tanh()))


def state(network):
    """Values and flags of all tensors, by name."""
    held = network.state_dict(keep_vars=True)
    return {name: (t.detach().clone(), t.requires_grad) for name, t in held.items()}


def unchanged(network, before):
    after = state(network)
    return all(
        after[name][0].equal(value) and after[name][1] == flag
        for name, (value, flag) in before.items()
    )


def scored(posterior, **more):
    return tda.attribute(posterior, tda.Classification(), DATA, DATA, **SETTINGS, **more).values


def products(network):
    gradients = reference.loss_gradients(network, DATA)
    return (gradients @ gradients.T).numpy()


@pytest.mark.parametrize("make", [normed, Tied])
def test_scores_keep_to_the_given_networks_and_leave_them_unchanged(make):
    networks = [make(1), make(2), make(1)]
    before, expected = list(map(state, networks)), list(map(products, networks))
    posterior = tda.Posterior.of_networks({0: networks[:1], 1: networks[1:2], 2: networks[2:]})
    pattern = next(name for name, p in networks[0].named_parameters() if not p.requires_grad)
    for _ in range(2):
        np.testing.assert_allclose(scored(posterior)[:, 0], expected, rtol=1e-9)
        scored(posterior, parameters=pattern)
    assert all(map(unchanged, networks, before))
    with torch.no_grad():
        for parameter in (*networks[0].parameters(), *networks[0].buffers()):
            parameter.mul_(3)
    np.testing.assert_allclose(scored(posterior)[:, 0], expected, rtol=1e-9)


def test_parameters_that_were_frozen_are_scored_with_the_values_of_their_sample():
    networks = [normed(1), normed(2)]
    posterior = tda.Posterior.of_networks({0: networks[:1], 1: networks[1:]})
    found = scored(posterior, parameters="0.0.*")
    for row, network in zip(found[:, 0], networks, strict=True):
        chosen = copy.deepcopy(network).requires_grad_(False)
        chosen[0][0].requires_grad_(True)
        np.testing.assert_allclose(row, products(chosen), rtol=1e-9)


def test_frozen_weights_that_samples_share_are_stored_once():
    first, other = normed(1), normed(2)
    second = copy.deepcopy(first)
    second[1].load_state_dict(other[1].state_dict())
    posterior = tda.Posterior.of_networks({0: [first], 1: [second], 2: [other]})
    weights = [posterior.network(seed, 0)[0][0].weight for seed in posterior.seeds]
    places = [weight.data_ptr() for weight in weights]
    assert places[0] == places[1] != places[2]
    assert first[0][0].weight.data_ptr() not in places


def test_scoring_other_parameters_does_not_change_later_scores():
    recipe = tda.Recipe(2, 3, 0.1, optimizer="sgd", keep=1)

    def build():
        network = normed(1)
        network[0][1] = nn.Identity()
        return network

    posterior = tda.train_posterior(build, tda.Classification(), DATA, recipe, seeds=[0, 1])
    before = scored(posterior)
    of_all = scored(posterior, parameters="*")
    np.testing.assert_array_equal(scored(posterior), before)
    whole = posterior.network(0, 0).requires_grad_(True)
    np.testing.assert_allclose(of_all[0, 0], products(whole), rtol=1e-9)


def test_loading_files_does_not_change_a_shared_trunk(tmp_path):
    trunk = normed(1)[0]
    before = state(trunk)
    others = [normed(2), normed(3)]
    for place, network in enumerate(others):
        save_file(network.state_dict(), tmp_path / f"{place}.safetensors")
    posterior = tda.Posterior.from_checkpoints(
        lambda: nn.Sequential(trunk, nn.Linear(5, 3).double()),
        {0: sorted(tmp_path.iterdir())},
    )
    scored(posterior, parameters="0.0.*")
    np.testing.assert_allclose(scored(posterior)[0], list(map(products, others)), rtol=1e-9)
    assert unchanged(trunk, before)


@pytest.mark.parametrize("change", ["statistics", "frozen weights", "nothing else"])
def test_measurements_equal_those_of_each_network_alone(change):
    frozen = change == "frozen weights"
    networks = [normed(seed, frozen=frozen) for seed in (1, 2, 3)]
    for network in networks[1:] if change == "nothing else" else ():
        network[0] = networks[0][0]
    posterior = tda.Posterior.of_networks({seed: [own] for seed, own in enumerate(networks)})
    expected = [nn.functional.cross_entropy(own(X), Y, reduction="none") for own in networks]
    for chunk in (1, 2, 3):
        found = tda.measure(posterior, tda.Classification(), DATA, chunk=chunk)
        expected_SM = torch.stack(expected).detach()
        np.testing.assert_allclose(found.values[:, 0], expected_SM, rtol=1e-10)


def volumes():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        first = nn.Sequential(nn.Conv3d(1, 2, 2), nn.Tanh(), nn.Flatten(2), nn.Unflatten(2, (2, 4)))
        return nn.Sequential(
            *first, nn.Conv2d(2, 3, (1, 2)), nn.Flatten(), nn.Linear(18, 3)
        ).double()


def test_networks_of_volumes_are_scored_and_trained_like_others():
    x = torch.randn(N, 1, 3, 3, 3, generator=GENERATOR, dtype=torch.float64)
    data = Data(x, Y, np.arange(N))
    objective, network = tda.Classification(), volumes()
    posterior = tda.Posterior.of_networks({0: [network]})
    found = tda.attribute(posterior, objective, data, data, method="grad_dot")
    gradients = reference.loss_gradients(network, data)
    np.testing.assert_allclose(found.values[0, 0], gradients @ gradients.T, rtol=1e-8)

    recipe = tda.Recipe(2, N, 0.1, 0.0, "sgd", keep=1)
    trained = tda.train_posterior(volumes, objective, data, recipe, seeds=[0]).network(0, 0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(data.x), Y).backward()
        optimizer.step()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], value, rtol=1e-9, atol=1e-12)
