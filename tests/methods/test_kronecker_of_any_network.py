"""Methods by layers on networks with padding, autocast, shared weights and norms in float32."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bayestda as tda

G = torch.Generator().manual_seed(0)
LENGTHS = (3, 5, 4, 5, 2, 4)
Y = torch.arange(6) % 3


def texts(width):
    ids, mask = torch.zeros(6, width, dtype=torch.long), torch.zeros(6, width, dtype=torch.long)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = torch.arange(row + 1, row + 1 + length)
        mask[row, :length] = 1
    return ids, mask


class Text(nn.Module):
    """Attention over real tokens, between linear layers on positions."""

    def __init__(self, name):
        super().__init__()
        self.name = name
        self.embed = nn.Embedding(12, 4).requires_grad_(False)
        self.a, self.b, self.last = nn.Linear(4, 4), nn.Linear(4, 1), nn.Linear(4, 3)

    def forward(self, ids, **masks):
        real = masks[self.name] if self.name == "attention_mask" else ~masks[self.name]
        hidden = torch.tanh(self.a(self.embed(ids)))
        share = self.b(hidden)[..., 0].masked_fill(~real.bool(), -torch.inf).softmax(-1)
        return self.last((share[..., None] * hidden).sum(1))


def scores(network, data, objective=None, **settings):
    posterior = tda.Posterior.of_networks({0: [network]})
    objective = objective or tda.Classification()
    return tda.attribute(posterior, objective, data, data, damping=0.05, **settings).values[0, 0]


@pytest.mark.parametrize("name", ["attention_mask", "src_key_padding_mask"])
@pytest.mark.parametrize(
    "settings",
    [{"method": "influence_ekfac"}, {"method": "influence_projected", "init": "pca", "rank": 2}],
    ids=["ekfac", "logra"],
)
def test_padding_changes_no_score(name, settings):
    torch.manual_seed(0)
    network, found = Text(name).double(), []
    for width in (5, 9, 20):
        ids, mask = texts(width)
        x = {"ids": ids, name: mask if name == "attention_mask" else mask == 0}
        found.append(scores(network, (x, Y), **settings))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-9, atol=1e-12)


def test_covariances_are_those_of_each_text_alone():
    """EK-FAC with exact eigenvectors is checked through one layer's covariance of inputs."""
    from bayestda.curvature.kronecker import FactorBlocks
    from bayestda.gradients.hooks import plain_layers
    from bayestda.gradients.sample import SampleGradients, root_cotangents
    from bayestda.model.examples import examples
    from bayestda.model.parameters import Parameters

    torch.manual_seed(0)
    network = Text("attention_mask").double().eval()
    ids, mask = texts(8)
    data = examples(({"ids": ids, "attention_mask": mask}, Y), torch.device("cpu"), torch.float64)
    gradients = SampleGradients(
        network, tda.Classification(), Parameters(network).read(network), train=data, test=data,
        memory_bytes=1e9,
    )  # fmt: skip
    blocks = FactorBlocks(gradients, plain_layers(gradients.network), root_cotangents)
    found = blocks.covariances()["a"][0]
    tokens = torch.cat([network.embed(row[:length]) for row, length in zip(ids, LENGTHS)])  # noqa: B905
    with_one = F.pad(tokens, (0, 1), value=1.0)
    torch.testing.assert_close(found, with_one.T @ with_one)


class Automatic(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.layers(x)


@pytest.mark.parametrize("method", ["influence_ekfac", "influence_projected", "influence"])
def test_autocast_within_the_network_rounds_scores_and_no_more(method):
    torch.manual_seed(0)
    network, x = Automatic(), torch.randn(6, 3, generator=G)
    wanted = scores(network.layers, (x, Y), method=method)
    found = scores(network, (x, Y), method=method)
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()


class Tied(nn.Module):
    """An encoder whose weight a function uses again, transposed."""

    def __init__(self):
        super().__init__()
        self.e = nn.Linear(5, 3, bias=False)

    def forward(self, x):
        return F.linear(torch.tanh(self.e(x)), self.e.weight.T)


@pytest.mark.parametrize("curvature", ["gauss_newton", "empirical_fisher"])
def test_logra_leaves_weights_alone_that_a_function_uses_too(curvature):
    torch.manual_seed(0)
    x = torch.randn(8, 5, generator=G).double()
    settings = {"method": "influence_projected", "curvature": curvature, "rank": 99}
    found = scores(Tied().double(), (x, x), tda.Regression(), **settings)
    torch.manual_seed(0)
    network = Tied().double()
    if curvature == "gauss_newton":
        wanted = scores(network, (x, x), tda.Regression(), method="influence")
    else:
        loss = (network(x) - x).square().mean(1)
        rows = torch.stack(
            [torch.autograd.grad(one, network.e.weight, retain_graph=True)[0].flatten()
             for one in loss]
        )  # fmt: skip
        fisher = rows.T @ rows / 8 + 0.05 * torch.eye(15).double()
        wanted = (rows @ torch.linalg.solve(fisher, rows.T)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-8)


def test_ekfac_refuses_weights_that_a_function_uses_too():
    with pytest.raises(tda.UserError, match=r"not e\.weight of this Tied"):
        x = torch.randn(8, 5, generator=G).double()
        scores(Tied().double(), (x, x), tda.Regression(), method="influence_ekfac")


class Norm(nn.Module):
    """RMS norm in float32, whatever the network's type, as language models have."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x):
        hidden = self.a(x)
        size = hidden.float().square().mean(-1, keepdim=True).rsqrt()
        return self.b((hidden.float() * size).to(x.dtype))


class LastOutput(tda.Classification):
    """An objective that says where the outputs are."""

    def output(self, network, x):
        return network(x)[:, -1]


class OnPositions(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)[:, -1]


def test_norms_in_float32_and_objectives_of_ones_own_go_through_ekfac():
    torch.manual_seed(0)
    network, x = Norm().double(), torch.randn(6, 2, 3, generator=G).double()
    wanted = scores(OnPositions(network), (x, Y), method="influence_ekfac")
    found = scores(network, (x, Y), LastOutput(), method="influence_ekfac")
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


class Gated(nn.Module):
    """A weight that a function uses again, for some inputs only."""

    def __init__(self):
        super().__init__()
        self.e = nn.Linear(3, 3, bias=False)

    def forward(self, x):
        hidden = torch.tanh(self.e(x))
        return hidden + F.linear(hidden, self.e.weight.T) * (x[:, :1] > 0)


def empirical_fisher_influence(network, x):
    weights = list(network.parameters())
    losses = F.cross_entropy(network(x), Y, reduction="none")
    rows = torch.stack(
        [torch.cat([piece.flatten() for piece in torch.autograd.grad(
            one, weights, retain_graph=True)]) for one in losses]
    )  # fmt: skip
    damped = rows.T @ rows / len(x) + 0.05 * torch.eye(rows.shape[1]).double()
    return (rows @ torch.linalg.solve(damped, rows.T)).numpy()


def test_logra_sees_a_second_use_that_the_first_example_does_not_show():
    torch.manual_seed(0)
    network, x = Gated().double(), torch.randn(6, 3, generator=G).double()
    x[:, 0] = x[:, 0].abs()
    x[0, 0] = -1.0
    found = scores(network, (x, Y), method="influence_projected", rank=99)
    np.testing.assert_allclose(found, empirical_fisher_influence(network, x), rtol=1e-8)


class OwnLinear(nn.Linear):
    """A layer of one's own, which is no plain layer."""


def test_logra_takes_networks_without_a_plain_layer():
    torch.manual_seed(0)
    network, x = OwnLinear(3, 3, bias=False).double(), torch.randn(6, 3, generator=G).double()
    found = scores(network, (x, Y), method="influence_projected")
    np.testing.assert_allclose(found, empirical_fisher_influence(network, x), rtol=1e-8)
