"""Rows are made in a way that is right for the network: against autograd alone, in float64."""

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
from torch import nn

import bayestda as tda
from bayestda.errors import UserError
from bayestda.gradients import sample
from bayestda.gradients.factored import Factored, Formed, inner, joined
from bayestda.gradients.looks import ways_of
from bayestda.gradients.sample import SampleGradients
from bayestda.model.examples import Data
from bayestda.model.parameters import Parameters

N, D = 8, 4


class Sorts(nn.Module):
    """Sorts its batch, and puts the order back."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(D, D), nn.Linear(D, 2)

    def forward(self, x):
        order = x[:, 0].argsort(descending=self.head.bias[0].item() > 0)
        return self.head(self.layer(x[order]).tanh())[order.argsort()]


class Sometimes(nn.Module):
    """Uses a layer's weight a second time, by a function, for examples with a large number."""

    def __init__(self, limit=1.0):
        super().__init__()
        self.layer, self.head, self.limit = nn.Linear(D, D), nn.Linear(D, 2), limit

    def forward(self, x):
        hidden = self.layer(x).tanh()
        again = F.linear(hidden, self.layer.weight, self.layer.bias).tanh()
        return self.head(torch.where(x[:, :1] > self.limit, again, hidden))


class SometimesTwice(Sometimes):
    """Calls a layer a second time, if there are such examples, for them."""

    def forward(self, x):
        hidden, some = self.layer(x).tanh(), x[:, 0] > self.limit
        if some.any():
            hidden = hidden.index_put((some,), self.layer(hidden[some]).tanh())
        return self.head(hidden)


class Repeats(nn.Module):
    """Repeats what a layer is called with once for all examples, as prompts and DeBERTa do."""

    def __init__(self):
        super().__init__()
        self.prompt, self.layer, self.head = nn.Embedding(2, D), nn.Linear(D, D), nn.Linear(D, 2)

    def forward(self, x):
        prompt = self.prompt(torch.arange(2)[None]).repeat(len(x), 1, 1)
        return self.head(self.layer(torch.cat([prompt, x[:, None]], 1)).tanh().mean(1))


class Adds(Repeats):
    """Leaves repeating to broadcasting."""

    def forward(self, x):
        return self.head(self.layer(x[:, None] + self.prompt(torch.arange(2)[None])).tanh().mean(1))


class InPairs(Repeats):
    """Asks for the one row of what a layer gave."""

    def forward(self, x):
        first, second = self.prompt(torch.arange(2)[None]).view(2, D)
        return self.head(self.layer(x * first + second).tanh())


def prelu():
    return nn.Sequential(nn.Linear(D, 3), nn.PReLU(3), nn.Linear(3, 2))


NETWORKS = {
    "a weight of PReLU": prelu,
    "a sorted batch": Sorts,
    "a weight used again by some": Sometimes,
    "a weight used again by few": lambda: Sometimes(1.6),
    "a layer called again by some": SometimesTwice,
    "a layer's output repeated by the network": Repeats,
    "a layer's output added to all examples": Adds,
    "a layer's output with one row": InPairs,
}


def of(make, x=None, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, drawn = make().double().eval(), torch.randn(N, D).double()
    x = drawn if x is None else x
    x[:, 0] = torch.linspace(-1, 1.7, len(x))[
        torch.arange(len(x)).roll(3)
    ]  # first and last are ordinary
    data = Data(x, torch.arange(len(x)) % 2, np.arange(len(x)))
    theta_P = Parameters(network).read(network)
    return SampleGradients(network, tda.Classification(), theta_P, train=data, test=data,
                           memory_bytes=1e9, **settings)  # fmt: skip


def formed(gradients, blocks):
    return torch.cat([gradients.vectors(rows) for _, rows in blocks])


@pytest.mark.filterwarnings("ignore:gradients of")
@pytest.mark.parametrize("name", NETWORKS)
def test_rows_and_jacobians_are_those_of_examples_alone(name):
    gradients = of(NETWORKS[name])
    network, data = gradients.network, gradients.train_data
    expected_NP = reference.loss_gradients(network, data)
    for blocks in (gradients.train, gradients.test):
        found_NP = formed(gradients, blocks)[:, 0]
        torch.testing.assert_close(found_NP, expected_NP, rtol=1e-9, atol=1e-13)
    expected_NKP = reference.jacobian(network, data)
    found_NKP = formed(gradients, gradients.jacobian)
    torch.testing.assert_close(found_NKP, expected_NKP, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(
    ("make", "simple"),
    [
        (Adds, {"prompt", "layer", "head"}),
        (Repeats, {"layer", "head"}),
        (InPairs, {"layer", "head"}),
        (Sorts, set()),
        (prelu, {"0", "2"}),
    ],
)
def test_hooks_serve_the_layers_that_they_get_right(make, simple):
    gradients = of(make)
    ways = ways_of(gradients.network, tda.Classification(), gradients.train_data.x)
    assert ways.simple == simple
    assert ways.single == ({"1.weight"} if make is prelu else set())


def test_a_network_that_mixes_examples_is_refused():
    class Centred(nn.Sequential):
        def forward(self, x):
            return super().forward(x - x.mean(0))

    with pytest.raises(UserError, match="depends on the other examples of its batch"):
        of(lambda: Centred(nn.Linear(D, 2))).train  # noqa: B018


def test_a_weight_that_is_used_again_in_a_late_block_is_refused(monkeypatch):
    monkeypatch.setattr(sample, "LOOK_EVERY", 2)
    x = torch.zeros(N, D).double()
    gradients = of(lambda: Sometimes(1.0), x)
    gradients.train_data.x[:, 0] = torch.linspace(0, 2, N)  # the last blocks are beyond 1
    gradients.ways = ways_of(gradients.network, tda.Classification(), x[:2])
    gradients.train.block = 1
    with pytest.raises(
        UserError, match="layer.* wrong from example [0-9] on.* give these examples"
    ):
        list(gradients.train)


def test_rows_of_confident_examples_are_looked_at_too():
    gradients = of(Sometimes)
    rows = gradients.captured(
        gradients.train_data.x,
        lambda f_BK: (
            torch.where(gradients.train_data.x[:, :1] > 1, 1e-9, 1.0)[None] * (1 + f_BK**2)
        ),
        look=True,
    )
    assert gradients.ways.single == {"layer.weight", "layer.bias"}
    assert isinstance(rows["layer"], Formed)


def test_formed_and_factored_rows_of_a_layer_go_together():
    generator = torch.Generator().manual_seed(0)
    activation, delta = (torch.randn(5, *size, generator=generator) for size in ((3,), (2, 4)))
    activation[:, -1] = 1
    factored = Factored(activation, delta, bias=True)
    plain = Formed(factored.formed())
    for left, right in ((factored, plain), (plain, factored)):
        found = inner({"a": left}, {"a": right})
        torch.testing.assert_close(found, inner({"a": plain}, {"a": plain}))
        both = joined([{"a": left}, {"a": right}])["a"].formed()
        torch.testing.assert_close(both, plain.values.repeat(2, 1, 1))
    weight_BL = torch.randn(5, 2, generator=generator)
    torch.testing.assert_close(factored.weighted(weight_BL), plain.weighted(weight_BL))
