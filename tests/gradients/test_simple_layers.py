"""Which layers hooks are enough for: rows against autograd, one example at a time in float64."""

import numpy as np
import pytest
import reference
import torch
from small_networks import NETWORKS, examples
from torch import nn

import bayestda as tda
from bayestda.errors import UserError
from bayestda.gradients.looks import ways_of
from bayestda.gradients.sample import SampleGradients
from bayestda.methods.ekfac import ekfac_influence
from bayestda.methods.grad_dot import grad_dot
from bayestda.model.examples import Data
from bayestda.model.parameters import Parameters

N, D = 6, 4


class Tied(nn.Module):
    """Outputs are the words' similarities to a hidden state, as of a language model."""

    def __init__(self):
        super().__init__()
        self.words, self.hidden = nn.Embedding(5, D), nn.Linear(D, D)

    def forward(self, x):
        return torch.tanh(self.hidden(self.words(x)).mean(1)) @ self.words.weight.T


class PositionsFirst(nn.Module):
    """Sequences [T B D] inside."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(D, 2, 8, dropout=0.0, batch_first=False)
        self.head = nn.Linear(D, 2)

    def forward(self, x):
        return self.head(self.layer(x.transpose(0, 1))[0])


class OfLabels(nn.Module):
    """A layer on what the K classes are, not on what the examples are."""

    def __init__(self, num_labels):
        super().__init__()
        self.labels, self.layer = nn.Parameter(torch.randn(num_labels, D)), nn.Linear(D, D)

    def forward(self, x):
        return x @ self.layer(self.labels).T


class Reused(nn.Module):
    """A layer's weight there and back."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(D, D), nn.Linear(D, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.layer(x)) @ self.layer.weight)


def of_spectral_norm():
    normed = torch.nn.utils.spectral_norm(nn.Linear(D, 5))
    return nn.Sequential(normed, nn.Tanh(), nn.Linear(5, 2))


CASES = {
    "weight used outside": (Tied, (5, 3)),
    "weight used twice": (Reused, (N, D)),
    "weight made of others": (of_spectral_norm, (N, D)),
    "as many positions as examples": (PositionsFirst, (N, N, D)),
    "two positions": (PositionsFirst, (N, 2, D)),
    "as many labels as examples": (lambda: OfLabels(N), (N, D)),
    "two labels": (lambda: OfLabels(2), (N, D)),
}


def sample(make, shape):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = make().double().eval()
        x = torch.randint(0, 5, shape) if make is Tied else torch.randn(shape).double()
    return of_network(network, x)


def of_network(network, x):
    data = Data(x, torch.arange(len(x)) % 2, np.arange(len(x)))
    theta_P = Parameters(network).read(network)
    return SampleGradients(
        network, tda.Classification(), theta_P, train=data, test=data, memory_bytes=1e9
    )


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", CASES)
def test_rows_are_gradients_of_single_examples(name):
    gradients = sample(*CASES[name])
    found_NP = torch.cat([gradients.vectors(rows)[:, 0] for _, rows in gradients.train])
    expected_NP = reference.loss_gradients(gradients.network, gradients.train_data)
    torch.testing.assert_close(found_NP, expected_NP, rtol=1e-10, atol=1e-13)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_a_block_as_long_as_the_sequences_fits_the_others():
    gradients = sample(PositionsFirst, (N, 4, D))
    gradients.train.block = 4
    gradients.test.block = N
    expected_NP = reference.loss_gradients(gradients.network, gradients.train_data)
    torch.testing.assert_close(
        grad_dot(gradients), expected_NP @ expected_NP.T, rtol=1e-10, atol=1e-13
    )


@pytest.mark.parametrize(
    ("name", "outside"),
    [
        ("weight made of others", "0.bias, 0.weight_orig"),
        ("weight used twice", "layer.weight, layer.bias"),
        ("two labels", "labels, layer.weight, layer.bias"),
    ],
)
def test_ekfac_does_not_cover_layers_whose_hooks_see_other_than_examples(name, outside):
    with pytest.raises(UserError, match=f"EK-FAC covers .* not {outside} of"):
        ekfac_influence(sample(*CASES[name]), 0.1)


class Partly(nn.Module):
    """All known kinds of layers."""

    def __init__(self):
        super().__init__()
        self.conv, self.groups = nn.Conv2d(1, 4, 2, dilation=(1, 2)), nn.GroupNorm(2, 4)
        self.batch, self.layer = nn.BatchNorm2d(4), nn.LayerNorm(2)
        self.steps, self.head = nn.Linear(2, 3), nn.Linear(4 * 3, 2)

    def forward(self, x):
        hidden = self.layer(torch.tanh(self.batch(self.groups(self.conv(x))))[:, :, 0])
        return self.head(torch.tanh(self.steps(hidden)).flatten(1))


@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_layers_of_which_a_part_is_trained_are_hooked(frozen):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        network, x = Partly().double().eval(), torch.randn(5, 1, 2, 4).double()
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.endswith(frozen))
    names = {"conv", "groups", "batch", "layer", "steps", "head"}
    assert ways_of(network, tda.Classification(), x).simple == names
    gradients = of_network(network, x)
    found_NP = torch.cat([gradients.vectors(rows)[:, 0] for _, rows in gradients.train])
    expected_NP = reference.loss_gradients(gradients.network, gradients.train_data)
    torch.testing.assert_close(found_NP, expected_NP, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_examples", [1, 5])
@pytest.mark.parametrize("name", ["mlp", "tiny_cnn", "sequence_mlp", "WithStrangers"])
def test_plain_layers_are_hooked(name, num_examples, dtype):
    network, x = NETWORKS[name]().to(dtype), examples(name, num_examples, 1, dtype).x
    kinds = (nn.Linear, nn.Conv2d, nn.LayerNorm)
    expected = {own for own, layer in network.named_modules() if isinstance(layer, kinds)}
    assert ways_of(network, tda.Classification(), x).simple == expected - {"shared"}
