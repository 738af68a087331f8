"""Names of checkpoints are matched with those of a network."""

import pytest
import torch

from bayestda.model.state_names import renamed

NAMES = ("0.weight", "0.bias", "2.weight")
ADAPTED = (
    "base_model.model.q.lora_A.default.weight",
    "base_model.model.head.original_module.weight",
    "base_model.model.head.modules_to_save.default.weight",
)


def tensors(names):
    return {name: torch.full((1,), float(place)) for place, name in enumerate(names)}


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "_orig_mod.", "model.", "network.", "module._orig_mod.", "model.network.body."],
)
def test_prefixes_before_all_names_are_taken_off(prefix):
    found = renamed(tensors([prefix + name for name in NAMES]), NAMES)
    assert list(found) == list(NAMES)
    assert [float(value) for value in found.values()] == [0, 1, 2]


def test_wrappers_within_names_are_taken_out():
    sample = tensors(["body._orig_mod.0.weight", "head.module.bias"])
    assert list(renamed(sample, ("body.0.weight", "head.bias"))) == ["body.0.weight", "head.bias"]


def test_names_of_an_inner_network_get_the_wrappers_prefix():
    wrapped = [f"inner.{name}" for name in NAMES]
    assert list(renamed(tensors(NAMES), wrapped)) == wrapped


def test_an_adapters_names_are_those_of_the_network_with_the_adapters_name():
    sample = tensors(["base_model.model.q.lora_A.weight", "base_model.model.head.weight"])
    assert list(renamed(sample, ADAPTED)) == [ADAPTED[0], ADAPTED[2]]


def test_names_that_fit_stay_although_a_prefix_could_be_taken_off():
    names = ("a.weight", "a.a.weight")
    assert list(renamed(tensors(names), names)) == list(names)


@pytest.mark.parametrize(
    "names", [["other.weight"], ["x.0.weight", "y.0.bias"], ["0.weight", "1.c"]]
)
def test_names_of_another_network_are_left_for_the_message(names):
    assert list(renamed(tensors(names), NAMES)) == names
