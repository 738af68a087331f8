"""Data that are scored are the same at every reading."""

import random

import numpy as np
import pytest
import torch

from bayestda.errors import UserError
from bayestda.model.examples import examples
from bayestda.model.readings import check_steady, spread

N = 12


class Reading(torch.utils.data.Dataset):
    """Examples whose inputs a function may change at every reading."""

    def __init__(self, change):
        self.x, self.change = torch.arange(2.0 * N).reshape(N, 2), change

    def __len__(self):
        return N

    def __getitem__(self, i):
        return self.change(self.x[i]), i % 2


def streamed(change, **loader):
    source = Reading(change)
    if loader:
        source = torch.utils.data.DataLoader(source, **loader)
    return examples(source, torch.device("cpu"), torch.float64)


def own_generator():
    generator = torch.Generator().manual_seed(0)
    return lambda x: x + torch.randn(2, generator=generator)


def noise(items):
    x = torch.stack([item[0] for item in items])
    return x + torch.randn(len(items), 1), torch.tensor([item[1] for item in items])


CHANGES = {
    "torch": lambda x: x + torch.randn(2),
    "numpy": lambda x: x + float(np.random.normal()),  # noqa: NPY002
    "python": lambda x: x + random.random(),
    "a generator of its own": own_generator(),
    "size": lambda x: x.repeat(int(torch.randint(1, 9, ()))),
}


@pytest.mark.parametrize("name", CHANGES)
def test_data_that_are_drawn_anew_are_refused(name):
    def collate_first(items):
        return items[0][0].expand(len(items), -1), torch.zeros(len(items))

    collate = {"collate_fn": collate_first}
    data = streamed(CHANGES[name], **(collate if name == "size" else {}))
    with pytest.raises(UserError, match="the test data are not the same when they are read twice"):
        check_steady(data, "test")


def test_a_collate_function_that_draws_is_refused():
    with pytest.raises(UserError, match="masking collator; give a data set that is fixed"):
        check_steady(streamed(lambda x: x, collate_fn=noise), "training")


def test_a_rare_change_is_found_where_random_numbers_are_drawn():
    torch.manual_seed(1)
    rare = streamed(lambda x: x.flip(0) if torch.rand(()) < 0.15 else x)
    with pytest.raises(UserError, match="read twice"):
        check_steady(rare, "training")


@pytest.mark.parametrize("change", [lambda x: x, lambda x: x + 0 * torch.randn(2),
                                    lambda x: x * torch.nan])  # fmt: skip
def test_data_that_are_the_same_pass(change):
    check_steady(streamed(change), "training")


@pytest.mark.parametrize(("count", "few", "expected"), [(1, 5, [0]), (3, 5, [0, 1, 2]),
                                                        (9, 3, [0, 4, 8])])  # fmt: skip
def test_positions_are_spread_from_the_first_to_the_last(count, few, expected):
    assert spread(count, few).tolist() == expected
