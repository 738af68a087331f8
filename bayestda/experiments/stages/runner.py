"""Get all runs of an experiment done: in parts, in parallel, each part once.

The work of a run is a range of items (retrainings, examples to step on, or the run as a whole).
Ranges are computed by worker processes of one thread each, so that numbers do not depend on how
many there are; each finished range is a file, and when the files hold all items they become the
run's score file. A stage that is killed loses the ranges it was at.
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
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
import xarray as xr
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from bayestda.errors import UserError
from bayestda.experiments import paths, results
from bayestda.experiments.grid import Grid, Run
from bayestda.experiments.stages.context import Options, RunContext, context, default_jobs, forget
from bayestda.training.memory import TooManyMembers, full_gpu_noticed

Known = TypeVar("Known", bound=RunContext)
Result = xr.Dataset | UserError


class Stage(Generic[Known]):
    """A stage of the work; subclasses say what is computed for a run's context.

    Attributes:
        name: name of the script.
        unit: what an item of the work is, for the progress bar.
        stacks: whether members are trained together, so that fewer of them take less memory.
        chosen_by: the flag that names the outputs, where each may be left out; else "".
    """

    name = ""
    unit = "run"
    stacks = False
    chosen_by = ""

    def context(self, experiment: Any, run: Run, options: Options) -> Known:
        """The context of a run, kept while its parts are computed."""
        return context(experiment, run, options)  # type: ignore[return-value]

    def forget(self) -> None:
        """Read files anew: they may have changed since an earlier stage in this process."""
        forget()

    def outputs(self, options: Options) -> tuple[str, ...]:
        """Names of the results: folders below ``scores/``."""
        raise NotImplementedError

    def settings(self, context: Known, output: str) -> dict:
        """What an output depends on, beside the training settings."""
        raise NotImplementedError

    def compute(self, context: Known, items: range, chunk: int) -> Mapping[str, "Result"]:
        """Results of some items, by output; ``chunk`` members are trained together.

        With ``chosen_by``, an error is the result of what cannot be computed.
        """
        raise NotImplementedError

    def num_items(self, context: Known) -> int:
        """How many items the work of a run has."""
        return 1

    def wanted_items(self, context: Known) -> range:
        """Items that this command is to compute, of those that the run has."""
        return range(self.num_items(context))

    def part_size(self, context: Known) -> int:
        """Items in a part: what is lost when the stage is killed."""
        return 1

    def gather(self, context: Known, parts: list[xr.Dataset]) -> xr.Dataset:
        """Join the results of one output, in the order of their first items; they may overlap."""
        return parts[0]

    def is_complete(self, context: Known) -> bool:
        """Whether everything beside the output files is there."""
        return True

    def path(self, experiment: str, output: str, run: str) -> Path:
        """File of an output."""
        return paths.scores(experiment, output, run)


class Refused(Exception):
    """Outputs that cannot be computed, with the reasons (its only argument)."""


@dataclass(frozen=True)
class Part:
    """A range of the items of one run."""

    run: Run
    items: range


def run_stage(
    stage: Stage, command: str, experiment: Grid, runs: list[Run], options: Options
) -> None:
    """Compute what is missing of the given runs.

    Args:
        stage: what to compute.
        command: the command that does it, for errors.
        experiment, runs: for what.
        options: flags.

    Raises:
        UserError: a result exists with other settings or is damaged, an earlier stage is missing,
            or a file cannot be written; or an output cannot be computed, which is said when the
            others are done.
    """
    job = _Job(stage, command, experiment, options)
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
        # Begun again, and not gone on with: a run's parts are alike to the last bit of rounding.
        print(f"out of GPU memory: going on with {chunk // 2} members a time", file=sys.stderr)
        job = replace(job, options=replace(job.options, chunk=chunk // 2))
        torch.cuda.empty_cache()
    if refused:
        raise UserError(f"{_sentence(refused)}; the rest is done, {job.command_for_rest}")


def _sentence(refused: dict[str, str]) -> str:
    return "; ".join(f"{output} cannot be computed: {reason}" for output, reason in refused.items())


def _complete(job: "_Job", runs: list[Run]) -> None:
    settle_process()
    job.stage.forget()
    job.stage.wanted_items(job.context(runs[0]))  # a wrong flag is an error, done or not
    todo = {}
    for run in runs:
        if job.is_done(run):
            job.remove_parts(run)  # if a job was killed before it had removed them
        else:
            todo[run] = job.todo(run)
    title = f"{job.stage.name} {job.experiment.name}"
    if not todo:
        print(f"{title}: nothing to do, all {len(runs)} runs are there")
        return
    for run in (run for run, parts in todo.items() if not parts):
        job.join(run)
    parts = [part for parts in todo.values() for part in parts]
    left = Counter(part.run for part in parts)
    with tqdm(total=len(_items(parts)), desc=title, unit=job.stage.unit) as bar:
        for part in _computed(job, parts):
            bar.update(len(part.items))
            left[part.run] -= 1
            if not left[part.run]:
                job.join(part.run)


def _items(parts: Iterable[Part]) -> list[int]:
    """Items of all parts."""
    return [item for part in parts for item in part.items]


def _overlap(one: range, other: range) -> bool:
    """Whether two ranges have a number in common."""
    return one.start < other.stop and other.start < one.stop


def ranges(items: list[int], size: int) -> list[range]:
    """Ascending numbers as ranges without gaps, of at most ``size``."""
    found: list[range] = []
    for item in items:
        if found and found[-1].stop == item and len(found[-1]) < size:
            found[-1] = range(found[-1].start, item + 1)
        else:
            found.append(range(item, item + 1))
    return found


@dataclass(frozen=True)
class _Job:
    """A stage with its flags: everything a worker process needs to know."""

    stage: Stage
    command: str
    experiment: Grid
    options: Options

    def context(self, run: Run) -> RunContext:
        return self.stage.context(self.experiment, run, self.options)

    def settings(self, run: Run, output: str) -> dict:
        of_run = self.context(run)
        return {**of_run.training_settings, **self.stage.settings(of_run, output)}

    def files(self, run: Run) -> dict[str, Path]:
        name = self.experiment.name
        outputs = self.stage.outputs(self.options)
        return {output: self.stage.path(name, output, run.name) for output in outputs}

    def without(self, refused: dict[str, str]) -> "_Job":
        """The same without some outputs.

        Raises:
            UserError: none is left.
        """
        outputs = self.stage.outputs(self.options)
        left = tuple(output for output in outputs if output not in refused)
        if not left:
            raise UserError(_sentence(refused))
        flags = {**dict(self.options.method), self.stage.chosen_by: left}
        return replace(self, options=replace(self.options, method=tuple(sorted(flags.items()))))

    @property
    def command_for_rest(self) -> str:
        """What to say of the outputs that are left when some were refused."""
        outputs = " ".join(self.stage.outputs(self.options))
        return f"and asked for alone by `--{self.stage.chosen_by} {outputs}`"

    def is_done(self, run: Run) -> bool:
        done = self._all_done(run, self.files(run))
        return self.stage.is_complete(self.context(run)) and done  # both refuse other settings

    def parts(self, run: Run) -> list[Part]:
        """Parts that are there, whether they can be used or not."""
        file = next(iter(self.files(run).values()))
        return [Part(run, items) for items in paths.parts(file)]

    def todo(self, run: Run) -> list[Part]:
        """What is wanted of a run and not there, in parts; only parts with such items are read."""
        of_run = self.context(run)
        wanted = self.stage.wanted_items(of_run)
        concerned = [part for part in self.parts(run) if _overlap(part.items, wanted)]
        usable = [part for part in concerned if self.can_be_used(run, self.opened(part))]
        there = set(_items(usable))
        missing = [item for item in wanted if item not in there]
        return [Part(run, items) for items in ranges(missing, self.stage.part_size(of_run))]

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

    def opened(self, part: Part) -> dict[str, xr.Dataset]:
        """Results of a part that is there, by output; none if it is missing or damaged."""
        try:
            return {
                output: results.open_scores(file, self.command)
                for output, file in self.part_files(part).items()
            }
        except UserError:
            return {}

    def can_be_used(self, run: Run, datasets: dict[str, xr.Dataset]) -> bool:
        """Whether a part is whole and of these settings; one that is not is made again."""
        return bool(datasets) and all(
            results.has_settings(dataset, self.part_settings(run, output))
            for output, dataset in datasets.items()
        )

    def _all_done(self, run: Run, files: dict[str, Path]) -> bool:
        done = [
            results.is_done(file, self.settings(run, output), self.command)
            for output, file in files.items()
        ]  # a list, so that every file is compared
        return all(done)

    def compute(self, part: Part) -> Part:
        start, of_run = time.perf_counter(), self.context(part.run)
        with full_gpu_noticed(of_run.chunk if self.stage.stacks else 1):
            computed = self.stage.compute(of_run, part.items, of_run.chunk)
        seconds = time.perf_counter() - start
        refused = {
            o: str(result) for o, result in computed.items() if isinstance(result, UserError)
        }
        for output, file in self.part_files(part).items():
            result = computed[output]
            if isinstance(result, UserError):
                continue
            settings = self.part_settings(part.run, output)
            try:
                results.write_scores(file, result, settings, seconds=seconds)
            except UserError:  # another job with these items joined them and removed the folder
                if not self.is_done(part.run):
                    raise
        if refused:
            raise Refused(refused)
        return part

    def join(self, run: Run) -> None:
        """Finish a run if all of its items are there: other jobs may be at the rest.

        Raises:
            UserError: the whole run was wanted, and another job has made a part in another way.
        """
        everything, there = set(range(self.stage.num_items(self.context(run)))), self.parts(run)
        absent = everything.difference(_items(there))  # by their names: most jobs end here
        if absent and not self.is_done(run):
            return self.leave(run, len(absent))
        if self.is_done(run):  # by another job, while this one was at its last part
            return self.remove_parts(run)
        opened = {part: datasets for part in there if (datasets := self.opened(part))}
        usable = {part: own for part, own in opened.items() if self.can_be_used(run, own)}
        missing = everything.difference(_items(usable))
        foreign = missing.intersection(_items(opened))
        if missing - foreign:  # damaged
            return self.leave(run, len(missing - foreign))
        if foreign:
            return self.not_joined(run, len(foreign))
        try:
            self.finish(run, list(usable.values()))
        except UserError:
            if not self.is_done(run):  # else another job has joined them at the same moment
                raise

    def not_joined(self, run: Run, count: int) -> None:
        """Of a share it is no error: whoever wants the whole run makes these parts again."""
        said = (
            f"run {run.name} is not joined: {count} {self.stage.unit}s were made with another "
            "number of members trained together, on another kind of device, or with other "
            "settings, and are not mixed with these: run the command without --loo_ids to make "
            f"them again, and give all jobs of a run one --chunk (here {self.context(run).chunk})"
        )
        of_run = self.context(run)
        if len(self.stage.wanted_items(of_run)) == self.stage.num_items(of_run):
            raise UserError(said)
        print(said, file=sys.stderr)

    def leave(self, run: Run, count: int) -> None:
        """Say that other jobs have to finish a run."""
        tqdm.write(f"run {run.name}: {count} {self.stage.unit}s are left to other jobs")

    def finish(self, run: Run, parts: list[dict[str, xr.Dataset]]) -> None:
        """Join a run's parts, in their order, to its score files; then remove them."""
        for output, file in self.files(run).items():
            loaded = [part[output] for part in parts]
            seconds = sum(part.attrs["seconds"] for part in loaded)
            gathered = self.stage.gather(self.context(run), loaded)
            gathered.attrs = {
                name: value for part in loaded for name, value in part.attrs.items()
                if name.startswith("default_")
            }  # fmt: skip
            results.write_scores(
                file, gathered, self.settings(run, output), seconds=seconds,
                device=str(self.options.device), data_hash=self.context(run).split.hash,
                flags=self.context(run).flags,
            )  # fmt: skip
        self.remove_parts(run)

    def remove_parts(self, run: Run) -> None:
        """Remove what a finished run's files were joined from."""
        for file in self.files(run).values():
            shutil.rmtree(paths.part(file, 0, 0).parent, ignore_errors=True)


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
            with interruption_deferred():
                futures = [pool.submit(job.compute, part) for part in todo]
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


@contextmanager
def interruption_deferred() -> Iterator[None]:
    """Ctrl-C waits; processes started meanwhile are deaf to it, even while they import."""
    resource_tracker.ensure_running()  # its start would end the deferral
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
    threadpool_limits(1, user_api="blas")  # numpy's products, whose sums depend on it, too
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # glibc: else each batch's tensors are mapped anew
            for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
                libc.mallopt(option, 2**30)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
