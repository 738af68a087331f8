"""The example of docs/extending.md: one entry, and everything knows the estimator."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bayestda as tda
from bayestda.errors import UserError
from bayestda.plots import style

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


def test_one_entry_makes_an_estimator_known_everywhere(monkeypatch):
    section = re.search(r"^## A new estimator\n(.*?)(?=^## )", PAGE.read_text(), re.M | re.S)[1]
    define, use = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    monkeypatch.setitem(tda.METHODS, "relative_grad_dot", None)  # taken away again afterwards
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 4, generator=generator, dtype=torch.float64)
    data = (x, torch.arange(7) % 3)
    names = {
        "posterior": tda.Posterior.of_networks({0: [nn.Linear(4, 3).double()]}),
        "objective": tda.Classification(), "train": data, "test": data,
    }  # fmt: skip
    exec(define, names)
    exec(use, names)

    scores = names["scores"]
    relative, plain_NM = scores["relative_grad_dot"], scores["grad_dot"].values[0, 0]
    assert relative.dims == ("damping", "seed", "checkpoint", "train", "test")
    expected = plain_NM / (np.diagonal(plain_NM)[:, None] + 1.0)
    np.testing.assert_allclose(relative.sel(damping=1.0).values[0, 0], expected, rtol=1e-10)
    assert style.label("relative_grad_dot") == "relative Grad-Dot"
    assert style.colour("relative_grad_dot") == "#56B4E9"
    assert style.label("relative_grad_dot_slow") == "relative Grad-Dot (slow)"
    with pytest.raises(UserError, match="divided by its own norm"):
        tda.as_shifts(relative)
