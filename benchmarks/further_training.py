"""Final-model-only attribution: this project beside one sequential run after another.

    python benchmarks/further_training.py [--task energy] [--epochs 5] [--cores 2]

Same machine, data, network and rates. Seconds of both sides are of the whole protocol (100 left-out
points and the full run, 500 epochs, 10 seeds; approximations for 100 left-out points and all test
points), each measured on a slice and multiplied out linearly, as the same work is repeated: ours on
--epochs epochs of all members of one seed, theirs (benchmarks/sequential.py) on two members; of
the approximations theirs on two left-out points, ours whole, for all training points. Both may use
all cores by processes (seeds are independent), so that the number of cores divides both. Times are
processor times of one thread, the median of three after one that is not counted, so that other
work on the machine does not matter.

Reads   data/energy/
Writes  a markdown table and CSV to stdout; with --output PREFIX also PREFIX.md and PREFIX.csv
"""

import statistics
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import sequential
import torch
from report import publish
from torch import nn

from bayestda.curvature.filters import ridge
from bayestda.curvature.gauss_newton import GaussNewton
from bayestda.experiments.approximations import DAMPINGS, LISSA_BATCH, LISSA_STEPS
from bayestda.experiments.data.tables import Split, load
from bayestda.experiments.final_models import PROTOCOLS
from bayestda.experiments.flags import count
from bayestda.experiments.networks import seeded
from bayestda.experiments.networks.mlp import mlp
from bayestda.experiments.stages.workers import settle_process
from bayestda.experiments.terminal import guarded
from bayestda.gradients.blocks import collected
from bayestda.gradients.sample import SampleGradients
from bayestda.model.losses import Regression
from bayestda.retraining.data_changes import Change
from bayestda.retraining.gold_standard import Course, GoldStandard
from bayestda.training.recipe import Recipe

SEEDS, SLICE, CG_STEPS, DAMPING = 10, 2, 100, 0.1


def main() -> None:
    """Measure, print."""
    flags = _flags()
    settle_process()
    split = load(flags.task)
    network = seeded(lambda: mlp(split.train.x.shape[1], 1), 0)
    recipe = PROTOCOLS[flags.task].further["sgd"]
    rows = [gold(network, split, recipe, flags), *approximations(network, split)]
    table = pd.DataFrame(rows, columns=["work", "ours_s", "sequential_s"])
    table.iloc[:, 1:] /= flags.cores
    table["ratio"] = table["sequential_s"] / table["ours_s"]
    publish(table, [f"{flags.cores} cores, one thread each", f"torch {torch.__version__}"],
            flags.output)  # fmt: skip


def gold(network: nn.Module, split: Split, recipe: Recipe, flags: Namespace) -> tuple:
    """Seconds of the gold standard."""
    num_left_out = PROTOCOLS[flags.task].num_left_out
    short = replace(recipe, epochs=flags.epochs)
    course = Course.of(short, len(split.train))
    ours = GoldStandard(network, Regression(), short, course)
    change = Change([[position] for position in range(num_left_out)])
    ours_s = processor_seconds(lambda: ours.losses(0, split.train, split.test, change))

    def theirs() -> None:
        for left_out in range(SLICE):
            sequential.further_losses(network, split.train, split.test, short, 0, left_out)

    theirs_s = processor_seconds(theirs) * (1 + num_left_out) / SLICE
    whole = SEEDS * recipe.epochs / flags.epochs
    return "further training", ours_s * whole, theirs_s * whole


def approximations(network: nn.Module, split: Split) -> list[tuple]:
    """Seconds of influence functions: ours exact, for all dampings together."""
    ours = {
        "11 dampings": processor_seconds(lambda: exact(network, split)),
        "1 damping": processor_seconds(lambda: solved(network, split)),
    }
    scale = 2 * float(torch.linalg.eigvalsh(_gauss_newton(network, split).gram_QQ)[-1]) + DAMPING
    solvers = {
        "CG": sequential.conjugate_gradients(DAMPING, CG_STEPS),
        "LiSSA": sequential.lissa(DAMPING, scale, LISSA_STEPS, LISSA_BATCH),
    }

    def theirs(solve) -> None:
        for left_out in range(SLICE):
            sequential.influence_of_point(network, split.train, split.test, left_out, solve)

    theirs_s = {
        name: processor_seconds(lambda solve=solve: theirs(solve)) * 100 / SLICE
        for name, solve in solvers.items()
    }
    return [
        (f"influence (ours: exact, {dampings}; theirs: {name}, one)", ours_s, theirs_s[name])
        for name in solvers
        for dampings, ours_s in ours.items()
    ]


def processor_seconds(work: Callable[[], object]) -> float:
    """Median processor time of three calls, after one that is not counted."""
    times = []
    for _ in range(4):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times[1:])


def exact(network: nn.Module, split: Split) -> torch.Tensor:
    """Scores [D N M] of all training examples, for all dampings."""
    curvature = _gauss_newton(network, split)
    size = len(split.train), len(split.test)
    return torch.stack([collected(curvature.filtered(ridge(d)), size) for d in DAMPINGS])


def solved(network: nn.Module, split: Split) -> torch.Tensor:
    """Scores [N M] of all training examples, for one damping."""
    size = len(split.train), len(split.test)
    return collected(_gauss_newton(network, split).solved(DAMPING), size)


def _gauss_newton(network: nn.Module, split: Split) -> GaussNewton:
    theta_P = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    gradients = SampleGradients(
        network, Regression(), theta_P, train=split.train, test=split.test, memory_bytes=4e9
    )
    return GaussNewton.of(gradients)


def _flags() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=("energy", "concrete"), default="energy")
    parser.add_argument("--epochs", type=count, default=5, help="of the slice")
    parser.add_argument("--cores", type=count, default=2)
    parser.add_argument("--output", type=Path, metavar="PREFIX")
    return parser.parse_args()


if __name__ == "__main__":
    guarded(main)
