"""Both sides of the CNN's stages in one run: this project's and the published algorithm's seconds.

    python benchmarks/cnn_stages.py

Same machine, same data (CNN2, MNIST3, 10 per class), same checkpoints, same cores (--cores, all
by default): the published algorithm has one process with that many threads, as PyTorch gives it;
ours has that many worker processes of one thread, as the stages do. The starting of processes
counts on neither side. Our side does all of the work (every seed, checkpoint and pair). The
published side would take over twenty minutes: it is measured on a slice of one checkpoint of the
first seed and multiplied out linearly, as it repeats the same work for every example, checkpoint
and seed; the column measured_share says how much was run.

Reads   data/mnist3/
Writes  a markdown table and CSV to stdout; with --output PREFIX also PREFIX.md and PREFIX.csv
Takes   1 minute on 2 CPU cores
"""

import copy
import multiprocessing
import os
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import ours
import pandas as pd
import published
import torch
from report import publish, seconds
from torch import Tensor

from bayestda.errors import UserError
from bayestda.experiments.flags import count
from bayestda.experiments.grid import Experiment
from bayestda.experiments.stages.commands import DAMPINGS
from bayestda.experiments.stages.context import Context
from bayestda.experiments.stages.options import Options, default_jobs
from bayestda.experiments.stages.systems import Cnn
from bayestda.experiments.stages.workers import settle_process
from bayestda.experiments.terminal import guarded

EXPERIMENT = Experiment("cnn2", "mnist3", 10)


@dataclass(frozen=True)
class Stage:
    """A row of the table.

    Attributes:
        name: of the row.
        ours: all of one run's scores, given its checkpoints [C P].
        published: scores of some examples at one checkpoint.
        slices: which examples those are, ``train`` or ``test``.
        counts: whether the row is part of the whole experiment.
    """

    name: str
    ours: Callable[[Context, Tensor], object]
    published: Callable[[published.Checkpoint, range], object]
    slices: str
    counts: bool = True


STAGES = (
    Stage("LOO", ours.leave_one_out, published.leave_one_out, "train"),
    Stage("ATS", ours.additional_steps, published.additional_training_step, "train"),
    Stage("influence (ours: exact)", ours.influence_exact, published.influence, "test"),
    Stage(
        "influence (ours: LiSSA)", ours.influence_lissa, published.influence, "test", counts=False
    ),
    Stage("Grad-Dot + Grad-Cos", ours.gradient_scores, published.gradient_scores, "test"),
)


def compare(
    contexts: list[Context], slice_sizes: dict[str, int], each: Callable = map
) -> pd.DataFrame:
    """Seconds of both sides, stage by stage.

    Args:
        contexts: the runs of the experiment.
        slice_sizes: examples that the published side is measured on: ``train`` and ``test``.
        each: maps a function over arguments of our side; a pool's ``map`` for several processes.
    """
    _warm_up(contexts[0])
    theta_SCP, rows = [], []
    jobs = [context_key(context) for context in contexts]
    list(each(ours.warm_up, jobs * 2))
    ours_s = seconds(lambda: theta_SCP.extend(each(ours.train_run_of, jobs)))
    published_s = seconds(lambda: _train_published(contexts[0]))
    rows.append(_row("train", ours_s, published_s, 1 / len(contexts)))
    checkpoint = _checkpoint(contexts[0], theta_SCP[0][-1])
    measured: dict[Callable, float] = {}  # LiSSA's row needs no second measurement
    for stage in STAGES:
        ours_s = _ours(stage, jobs, theta_SCP, each)
        total = len(getattr(checkpoint, stage.slices))
        chosen = range(min(slice_sizes[stage.slices], total))
        if stage.published not in measured:
            measured[stage.published] = seconds(lambda: stage.published(checkpoint, chosen))  # noqa: B023
        share = len(chosen) / total / len(contexts) / len(theta_SCP[0])
        rows.append(_row(stage.name, ours_s, measured[stage.published], share))
    return with_whole(rows)


def context_key(context: Context) -> tuple:
    """What a worker process makes the same context from."""
    return context.system, context.run, context.options


def with_whole(rows: list[dict]) -> pd.DataFrame:
    """The rows and their sum; no gradient pass is shared between stages on either side."""
    left_out = {stage.name for stage in STAGES if not stage.counts}
    counted = [row for row in rows if row["stage"] not in left_out]
    ours_s, published_s, measured_s = (
        sum(values)
        for values in zip(
            *(
                (row["ours_s"], row["published_s"], row["published_s"] * row["measured_share"])
                for row in counted
            ),
            strict=True,
        )
    )
    whole = _row("whole experiment", ours_s, measured_s, measured_s / published_s)
    return pd.DataFrame([*rows, whole])


def _row(stage: str, ours_s: float, measured_s: float, share: float) -> dict:
    return {
        "stage": stage,
        "ours_s": ours_s,
        "published_s": measured_s / share,
        "measured_share": share,
        "ratio": measured_s / share / ours_s,
    }


def _ours(stage: Stage, jobs: list, theta_SCP: list[Tensor], each: Callable) -> float:
    taken = seconds(lambda: list(each(partial(ours.score_run, stage.ours), jobs, theta_SCP)))
    print(f"{stage.name}: ours {taken:.1f} s", file=sys.stderr)
    return taken


def _warm_up(context: Context) -> None:
    """Everything once, on two training and a few test examples."""
    small = copy.copy(context)
    split = context.split
    small.split = replace(split, train=split.train.take(slice(2)), test=split.test.take(slice(64)))
    theta_CP = ours.train_run(small)[-1:]
    _train_published(small)
    checkpoint = _checkpoint(small, theta_CP[0])
    for stage in STAGES:
        stage.ours(small, theta_CP)
        stage.published(checkpoint, range(1))


def _checkpoint(context: Context, theta_P: Tensor) -> published.Checkpoint:
    network = published.plain(context.network)
    context.layout.write(network, theta_P)
    train_set, test_set = map(published.dataset, (context.split.train, context.split.test))
    return published.Checkpoint(network, train_set, test_set, context.recipe, context.run.order)


def _train_published(context: Context) -> None:
    examples = published.dataset(context.split.train)
    batches = published.shuffled(examples, context.recipe, context.run.order)
    published.train(published.plain(context.network), batches, context.recipe)


def _notes(contexts: list[Context], cores: int, load: float) -> list[str]:
    split, recipe = contexts[0].split, contexts[0].recipe
    return [
        f"{EXPERIMENT.name}: {len(contexts)} seeds × {recipe.keep} checkpoints × "
        f"{len(split.train.y)} training × {len(split.test.y)} test examples; {cores} cores on both "
        f"sides. published_s is multiplied out from the share measured_share of the work. "
        f"Exact influence gives {len(DAMPINGS)} dampings at once.",
        f"Load average before the run: {load:.1f}; much above 0 the machine was busy with other "
        "work and the numbers are to be measured again.",
    ]


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=count, default=2, help="runs of the experiment")
    parser.add_argument("--slice_test", type=count, default=30, help="test examples, published")
    parser.add_argument("--slice_train", type=count, default=30, help="training examples, likewise")
    parser.add_argument("--cores", type=count, default=default_jobs("cpu", 999), help="all")
    parser.add_argument("--output", type=Path, metavar="PREFIX", help="also write files")
    return parser.parse_args()


def _main() -> None:
    flags = _parse()
    settle_process()  # the published side too keeps the memory that it frees
    torch.set_num_threads(flags.cores)
    runs = EXPERIMENT.runs()
    if flags.seeds > len(runs):
        raise UserError(f"--seeds {flags.seeds} is too many: {EXPERIMENT.name} has {len(runs)}")
    options, system = Options(jobs=flags.cores), Cnn(EXPERIMENT)
    contexts = [Context(system, run, options) for run in runs[: flags.seeds]]
    load, slices = os.getloadavg()[0], {"train": flags.slice_train, "test": flags.slice_test}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(flags.cores, spawn, initializer=settle_process) as pool:
        table = compare(contexts, slices, pool.map)
    publish(table, _notes(contexts, flags.cores, load), flags.output)


if __name__ == "__main__":
    guarded(_main)
