"""Get all runs of an experiment done: in parts, in parallel, each part once.

The work of a run is a range of items (retrainings, examples to step on, or the run as a whole).
Ranges are computed by worker processes of one thread each, so that numbers do not depend on how
many there are; each finished range is a file, and when all are there they become the run's score
file. A stage that is killed loses the ranges it was at.
"""

import ctypes
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import xarray as xr
from tqdm import tqdm

from tda import paths, store
from tda.errors import UserError
from tda.experiments import Experiment, Run
from tda.memory import halving
from tda.stages.context import Context, Options, context, default_jobs, forget


class Stage:
    """A stage of the work; subclasses say what is computed for a run's context.

    Attributes:
        name: name of the script.
        unit: what an item of the work is, for the progress bar.
    """

    name = ""
    unit = "run"

    def outputs(self, options: Options) -> tuple[str, ...]:
        """Names of the results: folders below ``scores/``."""
        raise NotImplementedError

    def settings(self, context: Context, output: str) -> dict:
        """What an output depends on, beside the training settings."""
        raise NotImplementedError

    def compute(self, context: Context, items: range, chunk: int) -> dict[str, xr.Dataset]:
        """Results of some items, by output; ``chunk`` members are trained together."""
        raise NotImplementedError

    def num_items(self, context: Context) -> int:
        """How many items the work of a run has."""
        return 1

    def wanted_items(self, context: Context) -> range:
        """Items that this command is to compute, of those that the run has."""
        return range(self.num_items(context))

    def part_size(self, context: Context) -> int:
        """Items in a part: what is lost when the stage is killed."""
        return 1

    def gather(self, context: Context, parts: list[xr.Dataset]) -> xr.Dataset:
        """Join the results of all parts of one output."""
        return parts[0]

    def is_complete(self, context: Context) -> bool:
        """Whether everything beside the output files is there."""
        return True

    def path(self, experiment: str, output: str, run: str) -> Path:
        """File of an output."""
        return paths.scores(experiment, output, run)


@dataclass(frozen=True)
class Part:
    """A range of the items of one run."""

    run: Run
    items: range


def run_stage(
    stage: Stage, command: str, experiment: Experiment, runs: list[Run], options: Options
) -> None:
    """Compute what is missing of the given runs.

    Args:
        stage: what to compute.
        command: the command that does it, for errors.
        experiment, runs: for what.
        options: flags.

    Raises:
        UserError: a result exists with other settings or is damaged, an earlier stage is missing,
            or a file cannot be written.
    """
    settle_process()
    forget()
    job = _Job(stage, command, experiment, options)
    todo, started = [], {}
    for run in runs:
        if job.is_done(run):
            continue
        started[run] = job.parts(run)
        todo += [
            part for part in started[run] if job.is_wanted(part) and not job.part_is_done(part)
        ]
    if not started:
        print(f"{stage.name} {experiment.name}: nothing to do, all {len(runs)} runs are there")
        return
    left = Counter(part.run for part in todo)
    for run in started.keys() - left.keys():
        job.join(run, started[run])
    num_items = sum(len(part.items) for part in todo)
    with tqdm(total=num_items, desc=f"{stage.name} {experiment.name}", unit=stage.unit) as bar:
        for part in _computed(job, todo):
            bar.update(len(part.items))
            left[part.run] -= 1
            if not left[part.run]:
                job.join(part.run, started[part.run])


@dataclass(frozen=True)
class _Job:
    """A stage with its flags: everything a worker process needs to know."""

    stage: Stage
    command: str
    experiment: Experiment
    options: Options

    def context(self, run: Run) -> Context:
        return context(self.experiment, run, self.options)

    def settings(self, run: Run, output: str) -> dict:
        of_run = self.context(run)
        return {**of_run.training_settings, **self.stage.settings(of_run, output)}

    def files(self, run: Run) -> dict[str, Path]:
        name = self.experiment.name
        outputs = self.stage.outputs(self.options)
        return {output: self.stage.path(name, output, run.name) for output in outputs}

    def is_done(self, run: Run) -> bool:
        return self._all_done(run, self.files(run)) and self.stage.is_complete(self.context(run))

    def parts(self, run: Run) -> list[Part]:
        of_run = self.context(run)
        count, size = self.stage.num_items(of_run), self.stage.part_size(of_run)
        starts = range(0, count, size)
        return [Part(run, range(start, min(start + size, count))) for start in starts]

    def is_wanted(self, part: Part) -> bool:
        wanted = self.stage.wanted_items(self.context(part.run))
        return part.items.start < wanted.stop and wanted.start < part.items.stop

    def part_files(self, part: Part) -> dict[str, Path]:
        return {
            output: paths.part(file, part.items.start, part.items.stop)
            for output, file in self.files(part.run).items()
        }

    def part_settings(self, run: Run, output: str) -> dict:
        """Parts are joined only if they went through the same kernels."""
        of_run = self.context(run)
        members = {"device": of_run.device.type, "chunk": of_run.chunk}
        return {**self.settings(run, output), "members": members}

    def part_is_done(self, part: Part) -> bool:
        """Whether the part can be used; one that is damaged or of other settings is made again."""
        try:
            return all(
                store.is_done(file, self.part_settings(part.run, output), self.command)
                for output, file in self.part_files(part).items()
            )
        except UserError:
            return False

    def _all_done(self, run: Run, files: dict[str, Path]) -> bool:
        done = [
            store.is_done(file, self.settings(run, output), self.command)
            for output, file in files.items()
        ]  # a list, so that every file is compared
        return all(done)

    def compute(self, part: Part) -> Part:
        start, of_run = time.perf_counter(), self.context(part.run)
        results = halving(lambda chunk: self.stage.compute(of_run, part.items, chunk), of_run)
        seconds = time.perf_counter() - start
        for output, file in self.part_files(part).items():
            settings = self.part_settings(part.run, output)
            store.write_scores(file, results[output], settings, seconds=seconds)
        return part

    def join(self, run: Run, parts: list[Part]) -> None:
        """Finish a run if all of its parts are there: other jobs may be at the rest."""
        missing = sum(not self.part_is_done(part) for part in parts)
        if missing and not self.is_done(run):
            tqdm.write(f"run {run.name}: {missing} of {len(parts)} parts are left to other jobs")
        elif not missing:
            try:
                self.finish(run, parts)
            except UserError:
                if not self.is_done(run):  # else another job has joined them at the same moment
                    raise

    def finish(self, run: Run, parts: list[Part]) -> None:
        """Join a run's parts to its score files, then remove them."""
        for output, file in self.files(run).items():
            part_files = [self.part_files(part)[output] for part in parts]
            loaded = [store.open_scores(part_file, self.command) for part_file in part_files]
            seconds = sum(part.attrs["seconds"] for part in loaded)
            gathered = self.stage.gather(self.context(run), loaded)
            gathered.attrs = {
                name: value for part in loaded for name, value in part.attrs.items()
                if name.startswith("default_")
            }  # fmt: skip
            store.write_scores(
                file, gathered, self.settings(run, output), seconds=seconds,
                device=str(self.options.device), data_hash=self.context(run).split.hash,
            )  # fmt: skip
            shutil.rmtree(part_files[0].parent, ignore_errors=True)


def _computed(job: _Job, todo: list[Part]) -> Iterator[Part]:
    """Parts as they get done, here or in worker processes."""
    jobs = job.options.jobs or default_jobs(job.options.device, len(todo))
    job = replace(job, options=replace(job.options, jobs=jobs))
    if jobs == 1:
        yield from map(job.compute, todo)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_start_worker) as pool:
        try:
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # workers start deaf to Ctrl-C
            futures = [pool.submit(job.compute, part) for part in todo]
            signal.signal(signal.SIGINT, before)
            for future in as_completed(futures):
                yield future.result()
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            if isinstance(error, BrokenPipeError | EOFError) or "BrokenProcessPool" in repr(error):
                raise UserError(
                    "a worker process was killed, perhaps for want of memory: run the same "
                    f"command again with a smaller --memory_gb or --jobs (now {jobs})"
                ) from error
            raise


def _start_worker() -> None:
    """One thread; leave Ctrl-C to the parent; end when the parent has ended."""
    settle_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def settle_process() -> None:
    """One thread; deterministic convolutions; memory that is freed stays with the process."""
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # glibc: else each batch's tensors are mapped anew
            for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
                libc.mallopt(option, 2**30)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
