"""Both sides of one_pass.py score the same, and a wrong checkout is one sentence."""

import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import bayestda as tda
from bayestda.errors import UserError
from bayestda.experiments import paths

sys.path.insert(0, str(paths.REPOSITORY / "benchmarks"))
import one_pass  # noqa: E402
import one_pass_side  # noqa: E402


def test_one_call_gives_what_eight_calls_give(tmp_path):
    x, y = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 3
    networks = [nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)) for _ in range(2)]
    save_file(one_pass._problem(networks, (x, y), (x[:4], y[:4])), tmp_path / "problem")
    one = one_pass_side.scoring("bayestda", tmp_path / "problem")()
    posterior = tda.Posterior.of_networks({0: networks})
    asked = (posterior, tda.Classification(), (x, y), (x[:4], y[:4]))
    eight = one_pass_side.eight_calls(tda, asked)
    assert one["influence"].shape == (len(one_pass_side.DAMPINGS), 1, 2, 9, 4)
    np.testing.assert_array_equal(one["grad_dot"], eight["grad_dot"])
    np.testing.assert_allclose(one["influence"], eight["influence"], rtol=1e-4, atol=1e-5)


def test_a_checkout_without_the_older_package_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["one_pass.py", "--before", str(tmp_path)])
    with pytest.raises(UserError, match="git worktree add --detach"):
        one_pass._main()
