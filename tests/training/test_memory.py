"""Budgets, and what happens when the GPU is full."""

import pytest
import torch

from bayestda.errors import out_of_memory
from bayestda.experiments import networks
from bayestda.experiments.stages import context
from bayestda.experiments.terminal import guarded
from bayestda.training import memory
from bayestda.training.recipe import Recipe

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


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("Tried to allocate 20.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        MemoryError(),
        SystemError("error return without exception set"),
    ],
)
def test_a_lack_of_memory_anywhere_in_a_script_is_one_sentence(error, capsys):
    def script():
        raise error

    with pytest.raises(SystemExit) as ended:
        guarded(script)
    assert ended.value.code == 2
    assert "there is not enough memory" in capsys.readouterr().err


def test_other_errors_are_no_lack_of_memory():
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def unusable(monkeypatch):
    """A GPU that is there, and fails at its first use."""

    def ones(*_sizes, device):
        if device != "cpu":
            raise RuntimeError("CUDA error: no kernel image is available\nfurther lines")
        return torch.zeros(1)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "ones", ones)


def test_an_unusable_gpu_is_named_and_the_cpu_used(monkeypatch, capsys):
    unusable(monkeypatch)
    assert context.choose_device(None, 3) == "cpu"
    expected = "cuda:1 cannot be used (CUDA error: no kernel image is available): falling back"
    assert expected in capsys.readouterr().err


def test_a_requested_gpu_that_cannot_be_used_is_an_error(monkeypatch):
    unusable(monkeypatch)
    with pytest.raises(memory.UserError, match="'cuda:0' cannot be used here"):
        context.choose_device("cuda:0", None)
