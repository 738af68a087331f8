"""Grad-Dot and influence at seven dampings: one call, against eight calls of an older checkout.

    git worktree add --detach ../before ec48769
    python benchmarks/one_pass.py --before ../before

The older checkout has the package `tda`, whose `attribute` takes one method and one damping. Both
sides score the same checkpoints of the same examples, each in a process of its own with one thread.
Repetitions take turns, so that other work on the machine meets both. Seconds are medians of the
processes' CPU time; ratio_wall is that of median wall times.

Reads   data/mnist3/, the checkout that --before names
Writes  a markdown table and CSV to stdout; with --output PREFIX also PREFIX.md and PREFIX.csv
Takes   4 minutes on one core
"""

import json
import os
import statistics
import subprocess
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from one_pass_side import DAMPINGS
from peer_cases import digits_mlp
from report import publish
from safetensors.torch import save_file
from torch import Tensor

import bayestda as tda
from bayestda.errors import UserError
from bayestda.experiments.data import subsets
from bayestda.experiments.flags import count
from bayestda.experiments.grid import Experiment
from bayestda.experiments.networks.cnn import cnn2
from bayestda.experiments.tasks import task
from bayestda.experiments.terminal import guarded

REPOSITORY = Path(__file__).resolve().parents[1]
EXPERIMENT = Experiment("cnn2", "mnist3", 10)
TOLERANCE = 1e-4  # of the largest score: networks are float32
Side = subprocess.Popen[str]


def digits() -> dict[str, Tensor]:
    """Return the digits MLP of the peers' benchmark: one network, 150 x 500 examples."""
    case = digits_mlp()
    return _problem([case.network], case.train, case.test)


def mnist3() -> dict[str, Tensor]:
    """Return CNN2 on MNIST3 with 10 per class: 5 checkpoints of a run, 30 x 900 images."""
    split, recipe = subsets.load(EXPERIMENT), EXPERIMENT.recipe
    train, test = ((part.x, part.y) for part in (split.train, split.test))
    posterior = tda.train_posterior(
        lambda: cnn2(task("mnist3")), tda.Classification(), train, recipe, seeds=[0]
    )
    networks = [posterior.network(0, place) for place in range(len(posterior.checkpoints))]
    return {**_problem(networks, train, test), "images": torch.ones(1)}


PROBLEMS = {"digits MLP": digits, "MNIST3 CNN2": mnist3}


def _problem(networks: list, train: tuple, test: tuple) -> dict[str, Tensor]:
    parts = zip(("x_train", "y_train", "x_test", "y_test"), (*train, *test), strict=True)
    states = {
        f"{number}.{name}": value
        for number, network in enumerate(networks)
        for name, value in network.state_dict().items()
    }
    tensors = {**states, **dict(parts), "checkpoints": torch.tensor(len(networks))}
    return {name: value.clone().contiguous() for name, value in tensors.items()}


def measure(name: str, before: Path, repeats: int) -> dict:
    """Return a row of the table: median seconds of both sides.

    Args:
        name: One of ``PROBLEMS``.
        before: The older checkout.
        repeats: Repetitions of each side, which take turns.

    Raises:
        UserError: a side does not run, or their scores differ.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "problem"
        save_file(PROBLEMS[name](), path)
        sides = {
            package: _started(package, checkout, path)
            for package, checkout in (("tda", before), ("bayestda", REPOSITORY))
        }
        try:
            _compare(path)
            times = [{key: _seconds(side) for key, side in sides.items()} for _ in range(repeats)]
        finally:
            for side in sides.values():
                side.communicate()  # its input ends, and so does it
    eight, one = (
        {
            clock: statistics.median(row[package][clock] for row in times)
            for clock in ("cpu", "wall")
        }
        for package in sides
    )
    return {
        "case": name, "eight_calls_s": eight["cpu"], "one_call_s": one["cpu"],
        "ratio": eight["cpu"] / one["cpu"], "ratio_wall": eight["wall"] / one["wall"],
    }  # fmt: skip


def _started(package: str, checkout: Path, path: Path) -> Side:
    """Start a side, and wait until it has scored once."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    script = Path(__file__).with_name("one_pass_side.py")
    side = subprocess.Popen(
        [sys.executable, str(script), package, str(path)], env=environment, cwd=checkout,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert side.stdout is not None
    if side.stdout.readline().strip() != "ready":
        raise UserError(f"{checkout} does not score by the package {package}; see above")
    return side


def _seconds(side: Side) -> dict[str, float]:
    assert side.stdin is not None and side.stdout is not None
    side.stdin.write("\n")
    side.stdin.flush()
    return json.loads(side.stdout.readline())


def _compare(path: Path) -> None:
    eight, one = (np.load(path.with_suffix(f".{package}.npz")) for package in ("tda", "bayestda"))
    for name in eight.files:
        for wanted, found in zip(eight[name], one[name], strict=True):
            if np.abs(found - wanted).max() > TOLERANCE * np.abs(wanted).max():
                raise UserError(f"{name}: one call and eight calls give different scores")


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="the older checkout")
    parser.add_argument("--repeats", type=count, default=5, help="of each side")
    parser.add_argument("--cases", nargs="+", choices=tuple(PROBLEMS), default=tuple(PROBLEMS))
    parser.add_argument("--output", type=Path, metavar="PREFIX", help="also write files")
    return parser.parse_args()


def _main() -> None:
    flags = _parse()
    if not (flags.before / "tda" / "__init__.py").exists():
        raise UserError(
            f"--before {flags.before} has no package tda: make the older checkout with "
            "`git worktree add --detach ../before ec48769`"
        )
    torch.set_num_threads(1)
    rows = [measure(name, flags.before, flags.repeats) for name in flags.cases]
    notes = [f"Grad-Dot, and influence at {len(DAMPINGS)} dampings; {flags.repeats} repetitions."]
    publish(pd.DataFrame(rows), notes, flags.output)


if __name__ == "__main__":
    guarded(_main)
