"""Simulated schedules on 8, 64 and 512 GPUs: what the size of a job costs, with failures.

    python analysis/figure_schedule.py                         # experiment 10 on H100s
    python analysis/figure_schedule.py --hours_to_failure 50000 --repetitions 200

Reads   benchmarks/costs.csv     FLOPs of a unit of each stage, from benchmarks/plan_vit.py
Writes  results/schedule.csv, results/figures/schedule.png
Takes   14 s of CPU time

GPU seconds are an estimate from FLOPs; overhead, spread, failures and repair are assumptions, and
flags. See tda/planning/schedule.py for the model.
"""

import tda.interruption  # noqa: F401

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

from tda import paths, store
from tda.analysis import report
from tda.errors import UserError, guarded
from tda.experiments import VIT_GRID, Experiment
from tda.figures import schedule, style
from tda.flag_types import count
from tda.planning.costs import read
from tda.planning.gpus import ACHIEVED, PEAK_TFLOPS, Gpu
from tda.planning.schedule import Cluster, Task
from tda.planning.workload import repeated, split, summary

SIZES = (8, 16, 32, 64, 128, 256, 512)
GPUS = (8, 64, 512)
LOST = ("lost_h", "lost_h_low", "lost_h_high")


def unit_seconds(experiment: Experiment, gpu: Gpu) -> dict[str, float]:
    """Estimated GPU seconds of a unit of each stage.

    Raises:
        UserError: no FLOPs of this experiment have been counted.
    """
    system = replace(experiment, randomness="init").name
    found = {
        cost.stage: cost.tflop / gpu.tflops
        for cost in read().values()
        if cost.system == system and cost.device == "gpu"
    }
    if not found:
        raise UserError(
            f"no FLOPs of {system} have been counted: python benchmarks/plan_vit.py --write does "
            "so for experiments 9 and 10"
        )
    return found


def simulated(experiment: Experiment, unit_s: dict[str, float], flags: Namespace) -> pd.DataFrame:
    """A row for each number of GPUs and size of a job."""
    most = 1 + experiment.num_train
    rows = []
    for gpus in GPUS:
        cluster = Cluster(
            gpus, flags.overhead, flags.spread, 1 / (3600 * flags.hours_to_failure), flags.repair
        )
        for size in dict.fromkeys(min(size, most) for size in SIZES):
            tasks = split(experiment, unit_s, size, flags.part)
            work_h = sum(each.units * each.unit_s for each in tasks) / 3600
            found = summary(repeated(tasks, cluster, flags.repetitions))
            unkept = summary(repeated(all_or_nothing(tasks), cluster, flags.repetitions))
            unkept_h = {name.replace("_h", "_unkept_h", 1): unkept[name] for name in LOST}
            row = {"gpus": gpus, "size": size, "jobs": len(tasks), "work_h": work_h}
            rows.append({**row, **found, **unkept_h})
    return pd.DataFrame(rows)


def all_or_nothing(tasks: list[Task]) -> list[Task]:
    """The same tasks, of which nothing is kept until they are done."""
    return [replace(each, units=1, unit_s=each.units * each.unit_s) for each in tasks]


def draw(flags: Namespace) -> Iterator[Path]:
    """Simulate, write the table, draw the figure."""
    experiment, gpu = Experiment.parse(flags.experiment), Gpu(flags.gpu, flags.achieved)
    table = simulated(experiment, unit_seconds(experiment, gpu), flags)
    path = paths.root() / "results" / "schedule.csv"
    content = table.to_csv(index=False, float_format="%.4g")
    store.write_bytes(path, content.encode())
    yield path
    assumed = (
        f"Simulated, {flags.repetitions} repetitions; bands: 5 to 95 %. GPU time: {gpu.basis}. "
        f"Assumed: {flags.overhead:g} s before each attempt, lognormal speed with σ = "
        f"{flags.spread:g}, a failure every {flags.hours_to_failure:g} GPU-hours, "
        f"{flags.repair:g} s until a GPU is back; {flags.part} retrainings are kept at a time."
    )
    heading = style.title(experiment)
    yield style.save(paths.figure(None, "schedule"), schedule.by_size(table, heading, assumed))


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default=VIT_GRID[1].name)
    parser.add_argument("--gpu", choices=tuple(PEAK_TFLOPS), default="H100")
    parser.add_argument("--achieved", type=float, default=ACHIEVED, help="share of its peak")
    parser.add_argument("--overhead", type=float, default=120.0, help="seconds; default: 120")
    parser.add_argument("--spread", type=float, default=0.3, help="default: 0.3")
    parser.add_argument("--hours_to_failure", type=float, default=50.0, help="GPU-hours")
    parser.add_argument("--repair", type=float, default=600.0, help="seconds; default: 600")
    parser.add_argument("--part", type=count, default=8, help="retrainings kept at a time")
    parser.add_argument("--repetitions", type=count, default=50)
    return parser.parse_args()


if __name__ == "__main__":
    guarded(lambda: report(draw(_parse())))
