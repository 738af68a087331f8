"""The tasks of an experiment whose jobs are split by seed and, for leave-one-out, by examples."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from tda.experiments import Experiment
from tda.planning.schedule import Cluster, Outcome, Task, simulate

QUANTILES = (0.05, 0.95)


def split(experiment: Experiment, unit_s: Mapping[str, float], size: int, part: int) -> list[Task]:
    """Tasks: a training, the methods that wait for it, retrainings by ranges, tables at the end.

    Args:
        experiment: how many seeds and training examples there are.
        unit_s: seconds of a ``train`` run, a ``loo`` retraining, an ``ats`` example and an
            ``influence`` run.
        size: retrainings in a job, at most.
        part: retrainings that are kept together: what a failure can cost.
    """
    num_train = experiment.num_train
    tasks: list[Task] = []
    for _ in experiment.runs():
        trained = (len(tasks),)
        tasks.append(Task(1, unit_s["train"]))
        tasks.append(_in_parts(num_train, part, unit_s["ats"], trained))
        tasks.append(Task(1, unit_s["influence"], trained))
        for start in range(0, num_train + 1, size):
            tasks.append(_in_parts(min(size, num_train + 1 - start), part, unit_s["loo"]))
    return [*tasks, Task(1, 0.0, tuple(range(len(tasks))))]


def _in_parts(number: int, part: int, unit_s: float, after: tuple[int, ...] = ()) -> Task:
    """Units in parts that are kept together, all of one length."""
    parts = -(-number // part)
    return Task(parts, number / parts * unit_s, after)


def repeated(tasks: list[Task], cluster: Cluster, repetitions: int) -> pd.DataFrame:
    """What came of repeated simulations, a row each, in hours: by seeds 0, 1, ..."""
    outcomes = [simulate(tasks, cluster, seed) for seed in range(repetitions)]
    return pd.DataFrame(
        {
            "makespan_h": found.makespan_s / 3600,
            "utilisation": found.utilisation(cluster.machines),
            "overhead_h": found.overhead_s / 3600,
            "lost_h": found.lost_s / 3600,
            "idle_h": idle_s(found, cluster.machines) / 3600,
            "failures": found.failures,
        }
        for found in outcomes
    )


def idle_s(found: Outcome, machines: int) -> float:
    """Seconds of machines that had nothing to do, or were away, until the end."""
    return machines * found.makespan_s - found.useful_s - found.overhead_s - found.lost_s


def summary(table: pd.DataFrame) -> dict[str, float]:
    """Mean of each column, and its 5th and 95th percentile over repetitions."""
    found: dict[str, float] = {}
    for name in table:
        low, high = np.quantile(table[name], QUANTILES)
        found |= {str(name): table[name].mean(), f"{name}_low": low, f"{name}_high": high}
    return found
