"""Items become batches of tensors, or a sentence says what to give."""

import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from bayestda.errors import UserError
from bayestda.model.examples import examples


class Items(Dataset):
    def __init__(self, make, count=4):
        self.make, self.count = make, count

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        return self.make(number)


def read(source):
    data = examples(source, torch.device("cpu"), torch.float64)
    return data.take(slice(None))


def test_text_and_none_are_left_out_of_mappings():
    data = read(Items(lambda i: {"x": torch.ones(2), "path": f"{i}.png", "m": None, "label": i}))
    assert data.x.keys() == {"x"}
    assert data.y.tolist() == [0, 1, 2, 3]


def test_text_that_a_collate_function_keeps_is_left_out_too():
    def collate(items):
        return {"x": torch.stack([i["x"] for i in items]), "text": ["a"] * len(items),
                "labels": torch.zeros(len(items))}  # fmt: skip

    loader = DataLoader(Items(lambda _: {"x": torch.ones(2)}), collate_fn=collate)
    assert read(loader).x.keys() == {"x"}


def test_lists_of_numbers_are_rows_of_an_array():
    data = read([{"ids": [i, i + 1], "labels": i} for i in range(3)])
    assert data.x["ids"].tolist() == [[0, 1], [1, 2], [2, 3]]
    assert data.x["ids"].dtype == torch.int64


def test_frames_are_arrays():
    frame, series = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}), pd.Series([0, 1])
    data = read((frame, series))
    assert data.x.tolist() == [[1, 3], [2, 4]]
    assert data.y.tolist() == [0, 1]


def test_a_single_target_beside_text_is_the_target():
    data = read(Items(lambda i: (torch.ones(2), {"label": i, "path": "a"})))
    assert data.y.tolist() == [0, 1, 2, 3]


REFUSED = {
    "different sizes": (Items(lambda i: (torch.ones(i + 1), i)), "pads them to one size"),
    "ragged lists": ([{"ids": [0] * (i + 1), "labels": i} for i in range(3)], "pads them"),
    "several targets": (
        Items(lambda _: (torch.ones(2), {"boxes": torch.ones(4), "label": torch.ones(1)})),
        "put what its loss needs side by side",
    ),
    "no target": ((torch.ones(3, 2), None), "targets are None"),
    "text as input": ((["a", "b"], torch.zeros(2)), "inputs[0]: a str cannot be made a tensor"),
    "one number": (({"x": torch.ones(3, 2), "t": 1.0}, torch.zeros(3)), "is one number"),
    "lengths": (({"x": torch.ones(3, 2)}, torch.zeros(2)), "inputs['x'] 3, targets 2"),
    "stacked list": (([torch.ones(5), torch.ones(5), torch.ones(5)], torch.zeros(3)),
                     "torch.stack it"),
    "no pairs": (torch.ones(3), "a batch must be (inputs, targets)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_meaning_is_refused_with_the_mend(name):
    source, message = REFUSED[name]
    with pytest.raises(UserError) as error:
        read(source)
    assert message in str(error.value)


def test_batches_whose_rows_are_no_examples_are_refused():
    """Graphs are often joined to one, with as many rows as there are nodes."""

    def collate(items):
        return torch.cat([x for x, _ in items]), torch.tensor([y for _, y in items])

    loader = DataLoader(Items(lambda i: (torch.ones(i + 1, 3), i)), collate_fn=collate)
    with pytest.raises(UserError, match="rows of one example cannot be told from another's"):
        read(loader)
