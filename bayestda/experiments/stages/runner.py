"""Get all runs of a system done: in parts, in parallel, each part once.

The work of a run is a range of items (retrainings, examples to step on, or the run as a whole).
Ranges are computed by worker processes of one thread each, so that numbers do not depend on how
many there are; each finished range is a file, and when the files hold all items they become the
run's score file. A stage that is killed loses the ranges it was at.
"""

import sys
from collections import Counter
from dataclasses import replace

import torch
from tqdm import tqdm

from bayestda.errors import UserError
from bayestda.experiments.grid import Run
from bayestda.experiments.stages import workers
from bayestda.experiments.stages.context import forget
from bayestda.experiments.stages.job import Job, Refused, items_of, sentence
from bayestda.experiments.stages.options import Options
from bayestda.experiments.stages.stage import Stage
from bayestda.experiments.stages.systems import System
from bayestda.training.memory import TooManyMembers


def run_stage(
    stage: Stage, command: str, system: System, runs: list[Run], options: Options
) -> None:
    """Compute what is missing of the given runs.

    Args:
        stage: The work.
        command: The command that does it, for errors.
        system, runs: The system, and those of its runs that are wanted.
        options: The flags.

    Raises:
        UserError: A result exists with other settings or is damaged, an earlier stage is missing,
            or a file cannot be written. An output that cannot be computed is reported when the
            others are done.
    """
    job = Job(stage, command, system, options)
    refused: dict[str, str] = {}
    while True:
        try:
            _complete(job, runs)
            break
        except Refused as error:
            refused |= error.args[0]
            job = job.without(refused)
            continue
        except TooManyMembers as full:
            (chunk,) = full.args
        # The run begins again: all of its parts have the same rounding.
        print(f"out of GPU memory: falling back to {chunk // 2} members at a time", file=sys.stderr)
        job = replace(job, options=replace(job.options, chunk=chunk // 2))
        torch.cuda.empty_cache()
    if refused:
        raise UserError(
            f"{sentence(refused)}; the rest is done: ask for it alone by `{job.flags_for_rest}`"
        )


def _complete(job: Job, runs: list[Run]) -> None:
    workers.settle_process()
    forget(job.system)
    job.stage.wanted_items(job.context(runs[0]))  # a wrong flag is an error, done or not
    todo = {}
    for run in runs:
        if job.is_done(run):
            job.remove_parts(run)  # if a job was killed before it had removed them
        else:
            todo[run] = job.todo(run)
    title = f"{job.stage.name} {job.system.name}"
    if not todo:
        print(f"{title}: nothing to do, all {len(runs)} runs are there")
        return
    for run in (run for run, parts in todo.items() if not parts):
        job.join(run)
    parts = [part for parts in todo.values() for part in parts]
    left = Counter(part.run for part in parts)
    with tqdm(total=len(items_of(parts)), desc=title, unit=job.stage.unit) as bar:
        for part in workers.computed(job, parts):
            bar.update(len(part.items))
            left[part.run] -= 1
            if not left[part.run]:
                job.join(part.run)
