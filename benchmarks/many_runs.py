"""A thousand runs of a small MLP: stacked, and one after the other with DataLoaders.

    python benchmarks/many_runs.py [--runs 1000] [--threads 2]

Both sides train the same runs, from the same initialisations and in the same orders of the data,
with the same optimiser, all of them, in float32; the script fails if the trained networks differ by
more than rounding. 512 training examples with 8 inputs, batches of 32. The loop has one thread: its
operations are too small to be shared, so that with more it is slower (--loop_threads).

Reads   nothing
Writes  a markdown table and CSV to stdout; with --output PREFIX also PREFIX.md and PREFIX.csv
Takes   70 seconds on two otherwise idle CPU cores
"""

import os
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from flops import Work, flop, peak
from report import publish
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import bayestda as tda
from bayestda.errors import UserError
from bayestda.experiments.flags import count
from bayestda.experiments.terminal import guarded
from bayestda.training.posterior import Posterior

SHAPES = ((20,), (200,), (130, 140))  # 201, 2,001 and 19,651 parameters
CHUNKS = (1000, 100, 50)
NUM_TRAIN, NUM_INPUTS = 512, 8
RECIPE = tda.Recipe(epochs=2, batch_size=32, lr=1e-3, weight_decay=1e-4, keep=1)
TOLERANCE = 1e-3  # of float32 networks after a run, relative to how far they have moved


def mlp(hidden: tuple[int, ...]) -> nn.Module:
    """An MLP with GELUs and one output."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip((NUM_INPUTS, *hidden), hidden, strict=False):
        layers += [nn.Linear(inputs, outputs), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], 1))


def examples(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a smooth function."""
    x = torch.randn(NUM_TRAIN, NUM_INPUTS, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return x, torch.sin(x[:, 0] * 2) + x[:, 1] * x[:, 2]


def stacked(build: Callable[[], nn.Module], data: tuple, seeds: list[int], chunk: int) -> Posterior:
    """All runs by the library."""
    return tda.train_posterior(build, tda.Regression(), data, RECIPE, seeds=seeds, chunk=chunk)


def one_by_one(build: Callable[[], nn.Module], data: tuple, seeds: list[int]) -> list[nn.Module]:
    """All runs as one usually writes them."""
    return [_run(build, TensorDataset(*data), seed) for seed in seeds]


def _run(build: Callable[[], nn.Module], dataset: TensorDataset, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network = build()
    optimizer = torch.optim.Adam(
        network.parameters(), lr=RECIPE.lr, weight_decay=RECIPE.weight_decay
    )
    order = torch.Generator().manual_seed(seed)
    for _ in range(RECIPE.epochs):
        shuffled = torch.randperm(len(dataset), generator=order).tolist()
        for x, y in DataLoader(dataset, RECIPE.batch_size, sampler=shuffled):
            optimizer.zero_grad()
            nn.functional.mse_loss(network(x)[:, 0], y).backward()
            optimizer.step()
    return network


def difference(posterior: Posterior, networks: list[nn.Module]) -> float:
    """Largest distance of two networks that should be equal, relative to how far they moved."""
    worst = 0.0
    for seed, network in zip(posterior.seeds, networks, strict=True):
        own = torch.cat([value.flatten() for value in posterior.samples[seed][0].values()])
        other = nn.utils.parameters_to_vector(network.parameters()).detach()
        moved = own - posterior.training.initial[seed]
        worst = max(worst, float((own - other).norm() / moved.norm()))
    return worst


def measure(hidden: tuple[int, ...], flags: Namespace) -> pd.DataFrame:
    """Times of one network: the loop, and stacked in every chunk."""
    data, seeds = examples(), list(range(1, flags.runs + 1))
    build = lambda: mlp(hidden)  # noqa: E731
    stacked(build, data, seeds[:2], 2)  # what is loaded once counts on no side
    torch.set_num_threads(flags.loop_threads)
    start = time.perf_counter()
    networks = one_by_one(build, data, seeds)
    loop = time.perf_counter() - start
    torch.set_num_threads(flags.threads)
    parameters = sum(p.numel() for p in networks[0].parameters())
    rows = [{"way": "one after the other", "seconds": loop, "difference": 0.0}]
    for chunk in CHUNKS:
        start = time.perf_counter()
        posterior = stacked(build, data, seeds, chunk)
        taken, apart = time.perf_counter() - start, difference(posterior, networks)
        if not apart < TOLERANCE:
            raise UserError(f"stacked runs differ from single ones by {apart:.1e}: do not trust it")
        rows.append({"way": f"stacked by {chunk}", "seconds": taken, "difference": apart})
    table = pd.DataFrame(rows)
    table.insert(0, "parameters", parameters)
    table["times_faster"] = loop / table["seconds"]
    one_run = flop(Work("one run", lambda: one_by_one(build, data, seeds[:1])))
    return table.assign(gflop_per_s=one_run * flags.runs / table["seconds"] / 1e9)


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=count, default=1000, help="runs of each network")
    parser.add_argument("--threads", type=count, default=2, help="of stacked runs")
    parser.add_argument("--loop_threads", type=count, default=1, help="of the loop")
    parser.add_argument("--output", type=Path, metavar="PREFIX", help="also write files")
    return parser.parse_args()


def _main() -> None:
    flags, load_average = _parse(), os.getloadavg()[0]
    table = pd.concat([measure(hidden, flags) for hidden in SHAPES])
    steps = RECIPE.epochs * NUM_TRAIN // RECIPE.batch_size
    notes = [
        f"{flags.runs} runs of {steps} Adam steps, batches of {RECIPE.batch_size}, "
        f"{flags.threads} thread(s) stacked, {flags.loop_threads} in the loop. difference: of two "
        "networks that should be equal, relative to how far they moved; above "
        f"{TOLERANCE:g} the script fails. gflop_per_s: of matrix products alone; products of large "
        f"matrices reach {peak('cpu').flop_per_s / 1e9:.0f} with one thread.",
        f"Load average before the run: {load_average:.1f}; much above 0 the machine was busy with "
        "other work, which the ratios feel less than the times.",
    ]
    publish(table, notes, flags.output)


if __name__ == "__main__":
    guarded(_main)
