"""looks.py times every look within a call, and leaves the library as it was."""

import sys
from collections import Counter

import torch
from torch import nn

import bayestda as tda
from bayestda.experiments import paths
from bayestda.scores import scoring

sys.path.insert(0, str(paths.REPOSITORY / "benchmarks"))
import looks  # noqa: E402


def test_every_look_of_a_call_is_timed():
    x, y = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 3
    posterior = tda.Posterior.of_networks({0: [nn.Linear(4, 3)]})
    row = looks.measure("small", (posterior, (x, y), (x, y)), "grad_dot", repeats=1)
    assert all(0 < row[column] < 1 for column in looks.LOOKS)
    assert row["share"] == sum(row[column] for column in looks.LOOKS)


def test_a_look_is_found_where_it_was_after_the_clock():
    before = scoring.look
    with looks.timed(Counter()):
        assert scoring.look is not before
    assert scoring.look is before
