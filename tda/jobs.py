"""How the work of the Snakefile is cut into jobs, and what a job takes. Does not import torch.

A job does all runs of a stage, or one run, or (leaving examples out in turn) a share of one run.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tda.experiments import Experiment, task

Files = Callable[[str], Sequence[Path]]

MEMORY_MB = 4000  # of a job on a CPU; the largest seen is 2.0 GB (docs/cluster.md)
OWN_MB = 1000  # of that for the process itself, 0.5 GB seen, and not for what it computes
START_MINUTES, SAFETY = 10, 4.0  # of a time limit: a slow start, and a slower machine
REFERENCE = Experiment("cnn2", "mnist3", 10)
RUN_SECONDS = {  # of a run on one core, of 10 images per class of mnist3; README
    "cnn": {"train": 2.0, "loo": 18.0, "ats": 16.0, "influence": 5.4},
    "vit_small": {"train": 4.8, "loo": 48.0, "ats": 48.0, "influence": 8.0},
}


def minutes(experiment: Experiment, stage: str) -> float | None:
    """Minutes of one run on one core, from :data:`RUN_SECONDS`; None: not measured.

    In proportion to the training examples and, where it trains, to the epochs; leave-one-out
    trains once more for each example.
    """
    family = "cnn" if experiment.family == "cnn" else experiment.model
    seconds = RUN_SECONDS.get(family, {}).get(stage)
    if seconds is None:
        return None
    factor = num_train(experiment) / num_train(REFERENCE)
    if stage == "loo":
        factor *= (1 + num_train(experiment)) / (1 + num_train(REFERENCE))
    if stage in ("train", "loo"):
        factor *= experiment.recipe.epochs / REFERENCE.recipe.epochs
    return factor * seconds / 60


def num_train(experiment: Experiment) -> int:
    """Training examples of an experiment."""
    return experiment.num_per_class * len(task(experiment.task).classes)


def shares(num_left_out: int, num_jobs: int) -> list[tuple[int, int]]:
    """First and last of ``--loo_ids`` by which jobs share a run evenly.

    Args:
        num_left_out: examples that are left out in turn.
        num_jobs: of a run; never more than there are examples.
    """
    num_jobs = max(1, min(num_jobs, num_left_out))
    bounds = [num_left_out * job // num_jobs for job in range(num_jobs + 1)]
    return list(zip(bounds[:-1], bounds[1:], strict=True))


@dataclass(frozen=True)
class Work:
    """A stage script and its files.

    Attributes:
        name: of its rule.
        command: script and flags that are the same for all runs.
        runs: names of the runs.
        makes, needs: files of a run, by its name.
        pattern: of a run's name, with the wildcards of one job.
        chosen: flags by which the command does one run only, by the job's wildcards.
        needs_always: files that all runs read.
        num_left_out: examples that a run is trained without in turn; 0: it cannot be shared.
        minutes: of one run on one core, measured or scaled from what was; None: not known.
    """

    name: str
    command: str
    runs: Sequence[str]
    makes: Files
    needs: Files = lambda _run: ()
    pattern: str = "{run}"
    chosen: Callable[[Any], str] = lambda _wildcards: ""
    needs_always: Sequence[Path] = ()
    num_left_out: int = 0
    minutes: float | None = None

    def inputs(self, per_run: bool) -> list[Path]:
        """What a job reads."""
        return [*self.needs_always, *self._files(self.needs, per_run)]

    def outputs(self, per_run: bool) -> list[Path]:
        """What a job writes."""
        return self._files(self.makes, per_run)

    def _files(self, files: Files, per_run: bool) -> list[Path]:
        runs = [self.pattern] if per_run else self.runs
        return list(dict.fromkeys(file for run in runs for file in files(run)))

    def time_limit(self, num_jobs: int) -> int | None:
        """Minutes that a job may take, of the ``num_jobs`` that each run is done by.

        Args:
            num_jobs: 0: one job does all runs.
        """
        if self.minutes is None:
            return None
        runs = len(self.runs) if num_jobs == 0 else 1
        fraction = 1 / num_jobs if num_jobs and self.num_left_out else 1
        return math.ceil(START_MINUTES + SAFETY * self.minutes * runs * fraction)
