"""Inputs of any nesting are cut, joined and copied leaf by leaf, and stay the user's own."""

from collections import UserDict, namedtuple

import numpy as np
import pytest
import torch
from torch import nn

import bayestda as tda
from bayestda.model.examples import examples, joined
from bayestda.model.inputs import concatenated, copied, leaves, length, mapped, rows_of

Pair = namedtuple("Pair", "one two")
U, V = torch.arange(12.0).view(6, 2), torch.arange(6.0)[:, None]
FORMS = {
    "tensor": U,
    "tuple": (U, V),
    "list": [U, V],
    "mapping": {"u": U, "v": V},
    "own mapping": UserDict(u=U, v=V),
    "named tuple": Pair(U, V),
    "nested": {"u": (U, [V, {"w": U}])},
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_cut_from_every_leaf_and_the_form_is_kept(form):
    x = FORMS[form]
    cut = rows_of(x, slice(1, 3))
    assert [leaf.tolist() for leaf in leaves(cut)] == [leaf[1:3].tolist() for leaf in leaves(x)]
    assert length(cut) == 2
    assert isinstance(cut, dict) if "mapping" in form else type(cut) is type(x)
    both = concatenated(cut, rows_of(x, slice(3, 6)))
    assert [leaf.tolist() for leaf in leaves(both)] == [leaf[1:].tolist() for leaf in leaves(x)]


def test_a_copy_shares_neither_containers_nor_tensors():
    x = {"u": [U, V]}
    other = copied(x)
    other["u"][0].zero_()
    other["u"].pop()
    other["new"] = 1
    assert x.keys() == {"u"}
    assert len(x["u"]) == 2
    assert U.any()


def test_leaves_keep_their_order():
    numbers = iter(range(10))
    counted = mapped(lambda _: next(numbers), FORMS["nested"])
    assert list(leaves(counted)) == [0, 1, 2]


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 3), nn.Linear(1, 3)

    def forward(self, u, v):
        return self.a(u) * self.b(v)


@pytest.fixture(scope="module")
def two():
    torch.manual_seed(0)
    return Two().double()


Y = torch.arange(6) % 3


def scores(network, data, **settings):
    posterior = tda.Posterior.of_networks({0: [network]})
    return tda.attribute(posterior, tda.Classification(), data, data, **settings).values[0, 0]


@pytest.mark.parametrize("form", ["tuple", "list", "named tuple", "mapping", "own mapping"])
@pytest.mark.parametrize("method", ["grad_dot", "influence_cg"])
def test_several_inputs_score_as_the_same_in_one_tensor(two, form, method):
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.both = two

        def forward(self, x):
            return self.both(x[:, :2], x[:, 2:])

    settings = {"method": method, **({"damping": 0.1} if "cg" in method else {})}
    wanted = scores(One(), (torch.cat([U, V], dim=1), Y), **settings)
    np.testing.assert_allclose(scores(two, (FORMS[form], Y), **settings), wanted, rtol=1e-9)


def test_items_with_several_inputs_are_stacked_each_by_itself(two):
    items = [((u, v), y) for u, v, y in zip(U, V, Y, strict=True)]
    wanted = scores(two, ((U, V), Y), method="grad_dot")
    assert np.array_equal(scores(two, items, method="grad_dot"), wanted)


def test_examples_with_several_inputs_are_joined():
    data = examples(((U, V), Y), torch.device("cpu"), torch.float64)
    both = joined(data, data.take(slice(2)))
    assert [len(leaf) for leaf in leaves(both.x)] == [8, 8]


class Changes(nn.Module):
    """Normalises its input in place, or begins with an activation that works in place."""

    def __init__(self, first):
        super().__init__()
        self.first, self.last = first, nn.Linear(2, 3)

    def forward(self, x):
        if self.first is not None:
            return self.last(self.first(x))
        x -= 5.0
        x /= 4.0
        return self.last(x)


def plain(x):
    return (x - 5.0) / 4.0


class Leaves(Changes):
    def forward(self, x):
        return self.last(torch.relu(x) if self.first is not None else plain(x))


@pytest.mark.parametrize("first", [None, nn.ReLU(inplace=True)], ids=["normalising", "activation"])
@pytest.mark.parametrize("method", ["grad_dot", "influence", "influence_cg", "influence_ekfac"])
def test_networks_that_write_into_their_input_change_no_data(first, method):
    torch.manual_seed(0)
    network, reference = Changes(first).double(), Leaves(first).double()
    reference.load_state_dict(network.state_dict())
    mine = U.double().clone()
    settings = {"method": method, **({} if method == "grad_dot" else {"damping": 0.1})}
    found = scores(network, (mine, Y), **settings)
    assert mine.equal(U.double())
    wanted = scores(reference, (mine, Y), **settings)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_training_and_retraining_leave_the_data_as_they_are():
    recipe = tda.Recipe(epochs=2, batch_size=3, optimizer="sgd", lr=0.1, keep=1)
    mine = U.clone()
    results = []
    for kind in (Changes, Leaves):
        posterior = tda.train_posterior(
            lambda kind=kind: kind(None), tda.Classification(), (mine, Y), recipe, seeds=[0]
        )
        for function in (tda.leave_one_out, tda.replay, tda.additional_step):
            values = function(posterior, tda.Classification(), (mine, Y), (mine, Y)).values
            results.append((kind, function.__name__, values))
    assert mine.equal(U)
    for (_, name, found), (_, _, wanted) in zip(results[:3], results[3:], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_layer_that_is_called_by_keyword_has_its_rows():
    torch.manual_seed(0)
    layer = nn.Linear(2, 3).double()
    wanted = scores(layer, (U.double(), Y), method="grad_dot")
    found = scores(layer, ({"input": U.double()}, Y), method="grad_dot")
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
