"""Jobs with their costs: core-hours from what was measured, GPU-hours as an estimate from FLOPs."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from tda.planning.commands import Work, work_of
from tda.planning.costs import Cost, Key, nearest
from tda.planning.dry_run import Job, predecessors
from tda.planning.gpus import Gpu
from tda.planning.schedule import Cluster, Task, simulate

START = ("start", "", "", "cpu")  # key of what a process takes before it does anything


@dataclass(frozen=True)
class Priced:
    """A job, what it does, and what that costs.

    Attributes:
        job: of the order of work.
        work: None for a target that only collects files.
        unit_s: seconds of one core or one GPU per unit; nan: nothing is known.
        device: ``cpu``, ``gpu``, or "" where nothing is known.
        basis: how it is known.
        start_s: seconds of a core before its processes do anything.
    """

    job: Job
    work: Work | None
    unit_s: float
    device: str
    basis: str
    start_s: float

    @property
    def seconds(self) -> float:
        """Of a core or GPU, without starting."""
        if self.work is None:
            return self.unit_s
        return self.unit_s * self.work.units if self.work.units else 0.0


def priced(jobs: Sequence[Job], costs: dict[Key, Cost], gpu: Gpu, device: str = "") -> list[Priced]:
    """Jobs with their costs.

    Args:
        jobs: of a dry run.
        costs: measured ones.
        gpu: for what is only known in FLOPs.
        device: ``cpu`` or ``gpu`` where only that is to be used; "": the CPU where it was measured,
            else a GPU.
    """
    works = claimed(jobs)
    return [_priced(job, work, costs, gpu, device) for job, work in zip(jobs, works, strict=True)]


def claimed(jobs: Sequence[Job]) -> list[Work | None]:
    """What each job does; what several can do counts for the one that need not wait for others.

    So the job that gathers the parts of a run which others share has nothing left to compute.
    """
    done: set[tuple] = set()
    found: dict[int, Work | None] = {}
    for place in _in_order(predecessors(jobs)):
        work = work_of(jobs[place].command, jobs[place].outputs)
        found[place] = work and work.without(done)
        done |= work.names() if work else set()
    return [found[place] for place in range(len(jobs))]


def _priced(job: Job, work: Work | None, costs: dict[Key, Cost], gpu: Gpu, device: str) -> Priced:
    if work is None:
        return Priced(job, None, float("nan") if job.command else 0.0, "", "", 0.0)
    start = costs.get(START)
    start_s = start.seconds if start else 0.0
    for kind in (device,) if device else ("cpu", "gpu"):
        cost = costs.get((work.stage, work.system, work.flags, kind))
        unit_s, basis = _unit(cost, costs, gpu) if cost else (float("nan"), "")
        if unit_s == unit_s:
            processes = work.processes if kind == "cpu" else 1
            return Priced(job, work, unit_s, kind, basis, processes * start_s)
    return Priced(job, work, float("nan"), "", "no measured cost", start_s)


def _unit(cost: Cost, costs: dict[Key, Cost], gpu: Gpu) -> tuple[float, str]:
    """Seconds of a unit, and how they are known."""
    if cost.device == "gpu":
        return cost.tflop / gpu.tflops, gpu.basis
    if cost.seconds == cost.seconds:
        return cost.seconds, cost.command
    other = nearest(costs, cost)
    if other is None:
        return float("nan"), ""
    return (
        other.seconds * cost.tflop / other.tflop,
        f"estimate: FLOPs, at the speed of {other.system}",
    )


def table(plan: Sequence[Priced]) -> pd.DataFrame:
    """A row for each stage of each system: jobs, units, core-hours, GPU-hours, and their basis.

    Tables and figures of a system share a row. Hours are nan where nothing is known.
    """
    rows: dict[str, dict] = {}
    for each in (each for each in plan if each.work is not None):
        work = each.work
        assert work is not None
        empty = {"jobs": 0, "units": 0, "unit": work.unit, "core_h": 0.0, "gpu_h": 0.0}
        names = {"work": work.title, "system": work.system, "basis": each.basis}
        row = rows.setdefault(work.title, {**names, **empty})
        row["jobs"] += 1
        row["units"] += work.units
        row["core_h"] += each.start_s / 3600
        row["gpu_h" if each.device == "gpu" else "core_h"] += each.seconds / 3600
    columns = ["work", "jobs", "units", "unit", "core_h", "gpu_h", "basis"]
    return pd.DataFrame(rows.values(), columns=["system", *columns]).sort_values(
        "system", kind="stable"
    )[columns]


def unknown(plan: Sequence[Priced]) -> list[Priced]:
    """Jobs whose cost nobody has measured."""
    return [each for each in plan if each.seconds != each.seconds]


def wall_s(plan: Sequence[Priced], machines: int, device: str) -> float:
    """Seconds until the last job with a known cost on a kind of machine is done.

    By list scheduling of the parts that one machine does at a time, in the order of the jobs;
    nothing fails, all parts take what was measured. Jobs on the other kind take no time.

    Args:
        plan: priced jobs, in the order of the dry run.
        machines: cores, or GPUs.
        device: ``cpu`` or ``gpu``.
    """
    return simulate(tasks(plan, device), Cluster(machines)).makespan_s


def tasks(plan: Sequence[Priced], device: str) -> list[Task]:
    """Parts of the jobs; one of no length stands between a job and those that wait for it."""
    found: list[Task] = []
    gate: dict[int, int] = {}
    before = predecessors([each.job for each in plan])
    for place in _in_order(before):
        each, waits = plan[place], tuple(gate[other] for other in before[place])
        first = len(found)
        if each.device == device and each.work is not None:
            found += [Task(size, each.unit_s, waits) for size in each.work.pieces]
        if device == "cpu" and each.start_s:
            found.append(Task(1, each.start_s, waits))
        gate[place] = len(found)
        found.append(Task(1, 0.0, tuple(range(first, len(found))) or waits))
    return found


def _in_order(before: Sequence[tuple[int, ...]]) -> list[int]:
    """Places such that each comes after those that it waits for."""
    found: dict[int, None] = {}

    def visit(place: int) -> None:
        for other in before[place]:
            if other not in found:
                visit(other)
        found[place] = None

    for place in range(len(before)):
        visit(place)
    return list(found)
