"""Counted FLOPs are those of the stages themselves; sizes are those that the library keeps."""

import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tda import paths
from tda.examples import Data
from tda.experiments import VIT_GRID, Experiment
from tda.gradients import SampleGradients
from tda.methods.logra import Bases, with_bottlenecks
from tda.objective import Classification
from tda.parameters import Parameters
from tda.planning.gpus import Gpu
from tda.stages.context import Context, Options
from tda.stages.retraining import LeaveOneOut
from tda.stages.training import Training

sys.path.insert(0, str(paths.REPOSITORY / "benchmarks"))
import plan_billion
import plan_vit

SMALL = Experiment("cnn2", "mnist3", 10)
TINY = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 96,
    "vocab_size": 50,
}  # fmt: skip


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))


def test_flops_of_two_images_multiply_out_to_those_of_the_stages():
    amounts = plan_vit.tflop(SMALL, plan_vit.counted(SMALL))
    options = Options(jobs=1, method=(("loo_ids", None), ("variant", "scratch")))
    for stage, name in ((Training(), "train"), (LeaveOneOut(), "loo")):
        context = Context(SMALL, SMALL.runs()[0], options)
        with FlopCounterMode(display=False) as counter:
            stage.compute(context, range(1), 1)
        assert counter.get_total_flops() / 1e12 == pytest.approx(amounts[name], rel=1e-3)


def test_hours_are_those_of_all_seeds_and_examples():
    experiment = VIT_GRID[0]
    amounts = {"train": 1.0, "loo": 2.0, "ats": 0.5, "influence": 3.0}
    row = plan_vit.hours(experiment, amounts, Gpu("H100", 0.5))
    tflop = 10 * (1 + 151 * 2 + 150 * 0.5 + 3)
    assert row["GPU-hours"] == pytest.approx(tflop / (0.5 * 67) / 3600)


def test_flops_of_a_language_model_are_two_a_weight_and_token_and_its_attention():
    tokens, width, layers = 20, 32, 3
    found = plan_billion.model(TINY, tokens)
    assert found.layers == layers * ((width, 3 * width), (width, width), (width, 96), (96, width))
    linear = 2 * tokens * (sum(ins * outs for ins, outs in found.layers) + width * 50)
    attention = layers * 4 * tokens**2 * width
    assert found.forward == pytest.approx(linear + attention, rel=0.01)
    assert found.to_activations == pytest.approx(2 * linear + 3 * attention, rel=0.01)
    assert found.to_weights == pytest.approx(3 * (linear + attention), rel=0.01)


def test_projected_gradients_are_as_large_as_those_of_the_library():
    """Layers 12-5-3 with rank 4: 4 * 4 + 4 * 3 numbers."""
    network = torch.nn.Sequential(
        torch.nn.Linear(12, 5, bias=False), torch.nn.Linear(5, 3, bias=False)
    )
    data = Data(torch.randn(4, 12), torch.arange(4) % 3, torch.arange(4).numpy())
    gradients = SampleGradients(
        network, Classification(), Parameters(network).read(network),
        train=data, test=data, memory_bytes=1e8,
    )  # fmt: skip
    bases: Bases = {
        "0": (torch.randn(12, 4), torch.randn(5, 4)), "1": (torch.randn(5, 4), torch.randn(3, 3))
    }  # fmt: skip
    numbers = with_bottlenecks(gradients, bases).layout.count
    counted = plan_billion.Model(75, ((12, 5), (5, 3)), 1, 1, 1)
    scale = plan_billion.Scale(4, 2, tokens=1, rank=4, workers=3)
    amounts = plan_billion.logra(counted, scale)
    assert amounts["bytes of an example, float32"] == 4 * numbers
    assert amounts["bytes of all, float16"] == 2 * 4 * numbers
    assert amounts["bytes of curvature"] == 8 * (16**2 + 12**2)
    assert amounts["bytes of scores"] == 4 * 4 * 2
    assert amounts["FLOP of scores"] == 2 * 4 * 2 * numbers
    assert amounts["network: test side to all workers"] == 3 * 2 * 4 * numbers


def test_a_projection_of_whole_gradients_costs_more_than_the_gradients():
    """2 k P for TRAK, 6 T P for the gradient: more once k is above 3 T."""
    found = plan_billion.model(TINY, 20)
    ways = {}
    for rank in (4, 16):
        scale = plan_billion.Scale(100, 10, 20, rank, 4)
        ways[rank] = plan_billion.trak(found, scale)
    assert ways[4]["FLOP of projections"] < ways[4]["FLOP of gradients"]
    assert ways[16]["FLOP of projections"] > ways[16]["FLOP of gradients"]
    hours = plan_billion.with_hours(ways[16])
    whole = sum(value for name, value in ways[16].items() if name.startswith("FLOP"))
    assert hours["GPU-hours, A100"] == pytest.approx(whole / (0.4 * 19.5e12) / 3600)
