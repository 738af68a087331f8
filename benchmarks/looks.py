"""What the looks at data, network, loss and rows cost, as a share of the call around them.

    python benchmarks/looks.py

CPU time of one call of `tda.attribute`, and of the looks within it: at a few examples alone and
twice (`bayestda.model.looks`), at the ways of making rows (`bayestda.gradients.looks`), and at
blocks of rows (`bayestda.gradients.ways`). Medians of repetitions, in one thread.

Reads   data/mnist3/
Writes  a markdown table and CSV to stdout; with --output PREFIX also PREFIX.md and PREFIX.csv
Takes   4 minutes on one core
"""

import statistics
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch
from peer_cases import digits_mlp
from report import publish
from torch import nn

import bayestda as tda
from bayestda.experiments.data import subsets
from bayestda.experiments.flags import count
from bayestda.experiments.grid import Experiment
from bayestda.experiments.networks.cnn import cnn2
from bayestda.experiments.networks.pretrained import transformers
from bayestda.experiments.tasks import task
from bayestda.experiments.terminal import guarded

LIMIT = 0.1  # of a call
LOOKS = {  # where the library finds them, by the column of the table
    "few_examples": "bayestda.scores.scoring.look",
    "ways": "bayestda.gradients.sample.ways_of",
    "blocks": "bayestda.gradients.hooks.differing",
}
SETTINGS: dict[str, dict[str, Any]] = {"grad_dot": {}, "influence": {"damping": 0.01}}
Problem = tuple[tda.Posterior, Any, Any]


def digits() -> Problem:
    """Return the digits MLP of the peers' benchmark: one network, 150 x 500 examples."""
    case = digits_mlp()
    return tda.Posterior.of_networks({0: [case.network]}), case.train, case.test


def mnist3() -> Problem:
    """Return CNN2 on MNIST3 with 10 per class: 5 checkpoints of a run, 30 x 900 images."""
    experiment = Experiment("cnn2", "mnist3", 10)
    split = subsets.load(experiment)
    train, test = ((part.x, part.y) for part in (split.train, split.test))
    posterior = tda.train_posterior(
        lambda: cnn2(task("mnist3")), tda.Classification(), train, experiment.recipe, seeds=[0]
    )
    return posterior, train, test


def vit() -> Problem:
    """Return a random ViT of 2 layers and 64 features, 100 x 500 random images of 32 x 32."""
    package = transformers()
    config = package.ViTConfig(
        image_size=32, patch_size=8, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_labels=3,
    )  # fmt: skip
    network = package.ViTForImageClassification(config)
    return _problem(network, lambda size: torch.randn(size, 3, 32, 32), 3)


def bert() -> Problem:
    """Return a random BERT of 2 layers and 128 features, 100 x 500 texts of 32 of 1,000 words."""
    package = transformers()
    config = package.BertConfig(
        vocab_size=1000, hidden_size=128, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=512, num_labels=2, max_position_embeddings=64,
    )  # fmt: skip
    network = package.BertForSequenceClassification(config)
    return _problem(network, lambda size: {"input_ids": torch.randint(0, 1000, (size, 32))}, 2)


def _problem(network: nn.Module, draw: Callable[[int], Any], num_classes: int) -> Problem:
    train, test = ((draw(size), torch.arange(size) % num_classes) for size in (100, 500))
    return tda.Posterior.of_networks({0: [network]}), train, test


PROBLEMS = {"digits MLP": digits, "MNIST3 CNN2": mnist3, "ViT": vit, "BERT": bert}


@contextmanager
def timed(spent: Counter) -> Iterator[None]:
    """Add up the CPU seconds of each look within the block."""

    def wrapped(column: str, function: Callable) -> Callable:
        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent[column] += time.process_time() - start

        return run

    with ExitStack() as stack:
        for column, place in LOOKS.items():
            module, _, name = place.rpartition(".")
            function = getattr(import_module(module), name)
            stack.enter_context(patch(place, wrapped(column, function)))
        yield


def measure(name: str, problem: Problem, method: str, repeats: int) -> dict:
    """Return a row of the table.

    Args:
        name: The case.
        problem: Its posterior, training and test examples.
        method: The method.
        repeats: Repetitions.
    """
    posterior, train, test = problem
    rows = []
    for _ in range(1 + repeats):  # the first one loads what is needed
        spent: Counter = Counter()
        with timed(spent):
            start = time.process_time()
            tda.attribute(
                posterior, tda.Classification(), train, test, method=method, **SETTINGS[method]
            )
            rows.append({"call_s": time.process_time() - start, **spent})
    medians = {key: statistics.median(row[key] for row in rows[1:]) for key in rows[1]}
    shares = {column: medians[column] / medians["call_s"] for column in LOOKS}
    total = {"call_s": medians["call_s"], **shares, "share": sum(shares.values())}
    return {"case": name, "method": method, **total}


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=count, default=3)
    parser.add_argument("--cases", nargs="+", choices=tuple(PROBLEMS), default=tuple(PROBLEMS))
    parser.add_argument("--output", type=Path, metavar="PREFIX", help="also write files")
    return parser.parse_args()


def _main() -> None:
    flags = _parse()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    table = []
    for name in flags.cases:
        problem = PROBLEMS[name]()
        table += [measure(name, problem, method, flags.repeats) for method in SETTINGS]
    over = [f"{row['case']} {row['method']}" for row in table if row["share"] > LIMIT]
    notes = [f"Limit {LIMIT:.0%}; above it: {', '.join(over) or 'none'}."]
    publish(pd.DataFrame(table), notes, flags.output)


if __name__ == "__main__":
    guarded(_main)
