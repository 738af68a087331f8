"""Budgets, and what happens when the GPU is full."""

import pytest
import torch

from tda import memory, networks
from tda.experiments import Recipe

CPU = torch.device("cpu")


def test_the_flag_is_shared_by_the_workers():
    assert memory.budget_bytes(4.0, CPU, workers=2) == 2e9


def test_without_the_flag_the_budget_is_less_than_what_is_free():
    assert 0 < memory.budget_bytes(None, CPU) < memory.psutil.virtual_memory().total


def test_a_cpu_trains_one_member_at_a_time():
    network = networks.build("cnn2", "mnist3", 0)
    assert memory.members_that_fit(network, Recipe(15), torch.zeros(4, 1, 28, 28), 1e12) == 1


def test_bytes_of_a_member_are_its_vectors_and_what_the_backward_pass_keeps():
    network = networks.build("cnn2", "mnist3", 0)
    per_image = 4 * (28 * 28 + 2 * 32 * 26 * 26)  # at the least: input, both sides of a GELU
    sizes = [
        memory.bytes_per_member(network, Recipe(15), torch.zeros(batch, 1, 28, 28))
        for batch in (1, 11)
    ]
    assert sizes[0] > 4 * 225_034 * 10
    assert sizes[1] - sizes[0] > 10 * per_image


def test_a_full_gpu_says_how_many_members_were_too_many():
    with pytest.raises(memory.TooManyMembers) as full, memory.full_gpu_noticed(16):
        raise torch.OutOfMemoryError
    assert full.value.args == (16,)


def test_a_gpu_too_small_for_one_member_is_an_error_that_says_so():
    with pytest.raises(memory.UserError, match="--device cpu"), memory.full_gpu_noticed(1):
        raise torch.OutOfMemoryError
