"""The work of one command: which parts of its runs are there, made, and joined."""

import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import xarray as xr
from tqdm import tqdm

from bayestda.errors import UserError
from bayestda.experiments import paths, results
from bayestda.experiments.grid import Run
from bayestda.experiments.stages.context import Context, context_of
from bayestda.experiments.stages.options import Options
from bayestda.experiments.stages.stage import Stage
from bayestda.experiments.stages.systems import System
from bayestda.training.memory import full_gpu_noticed


class Refused(Exception):
    """Outputs that cannot be computed, with the reasons (its only argument)."""


@dataclass(frozen=True)
class Part:
    """A range of the items of one run."""

    run: Run
    items: range


def sentence(refused: dict[str, str]) -> str:
    """Say which outputs cannot be computed, and why."""
    return "; ".join(f"{output} cannot be computed: {reason}" for output, reason in refused.items())


def items_of(parts: Iterable[Part]) -> list[int]:
    """Return the items of all parts."""
    return [item for part in parts for item in part.items]


def overlap(one: range, other: range) -> bool:
    """Return whether two ranges have a number in common."""
    return one.start < other.stop and other.start < one.stop


def ranges(items: list[int], size: int) -> list[range]:
    """Join ascending numbers to ranges without gaps, of at most ``size``."""
    found: list[range] = []
    for item in items:
        if found and found[-1].stop == item and len(found[-1]) < size:
            found[-1] = range(found[-1].start, item + 1)
        else:
            found.append(range(item, item + 1))
    return found


@dataclass(frozen=True)
class Job:
    """A stage with its flags: everything a worker process needs to know."""

    stage: Stage
    command: str
    system: System
    options: Options

    def context(self, run: Run) -> Context:
        """Return the context of a run."""
        return context_of(self.stage.context, self.system, run, self.options)

    def settings(self, run: Run, output: str) -> dict:
        """Return what an output depends on."""
        of_run = self.context(run)
        return {**of_run.training_settings, **self.stage.settings(of_run, output)}

    def files(self, run: Run) -> dict[str, Path]:
        """Return the files of a run, by output."""
        name = self.system.name
        outputs = self.stage.outputs(self.options)
        return {output: self.stage.path(name, output, run.name) for output in outputs}

    def without(self, refused: dict[str, str]) -> "Job":
        """Return the same job without some outputs.

        Raises:
            UserError: None is left.
        """
        outputs = self.stage.outputs(self.options)
        left = tuple(output for output in outputs if output not in refused)
        if not left:
            raise UserError(sentence(refused))
        flags = {**dict(self.options.method), self.stage.chosen_by: left}
        return replace(self, options=replace(self.options, method=tuple(sorted(flags.items()))))

    @property
    def flags_for_rest(self) -> str:
        """The flags that ask for the outputs that are left when some were refused."""
        outputs = " ".join(self.stage.outputs(self.options))
        return f"--{self.stage.chosen_by} {outputs}"

    def is_done(self, run: Run) -> bool:
        """Return whether a run's files are there, with these settings."""
        done = self._all_done(run, self.files(run))
        return self.stage.is_complete(self.context(run)) and done  # both refuse other settings

    def parts(self, run: Run) -> list[Part]:
        """Return the parts that are there, whether they can be used or not."""
        file = next(iter(self.files(run).values()))
        return [Part(run, items) for items in paths.parts(file)]

    def todo(self, run: Run) -> list[Part]:
        """Return what is wanted of a run and not there, in parts.

        Only parts with wanted items are read.
        """
        of_run = self.context(run)
        wanted = self.stage.wanted_items(of_run)
        concerned = [part for part in self.parts(run) if overlap(part.items, wanted)]
        usable = [part for part in concerned if self.can_be_used(run, self.opened(part))]
        there = set(items_of(usable))
        missing = [item for item in wanted if item not in there]
        return [Part(run, items) for items in ranges(missing, self.stage.part_size(of_run))]

    def part_files(self, part: Part) -> dict[str, Path]:
        """Return the files of a part, by output."""
        return {
            output: paths.part(file, part.items.start, part.items.stop)
            for output, file in self.files(part.run).items()
        }

    def part_settings(self, run: Run, output: str) -> dict:
        """Return what a part depends on: parts are joined if they went through the same kernels."""
        of_run = self.context(run)
        members = {"device": of_run.device.type, "chunk": of_run.chunk}
        return {**self.settings(run, output), "members": members}

    def opened(self, part: Part) -> dict[str, xr.Dataset]:
        """Read a part that is there, by output; nothing if it is missing or damaged."""
        try:
            return {
                output: results.open_scores(file, self.command)
                for output, file in self.part_files(part).items()
            }
        except UserError:
            return {}

    def can_be_used(self, run: Run, datasets: dict[str, xr.Dataset]) -> bool:
        """Return whether a part is whole and of these settings; else it is made again."""
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
        """Compute a part and write its files.

        Raises:
            Refused: Outputs cannot be computed; the others are written.
        """
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
            UserError: The whole run was wanted, and another job made a part in another way.
        """
        everything, there = set(range(self.stage.num_items(self.context(run)))), self.parts(run)
        absent = everything.difference(items_of(there))  # by their names: most jobs end here
        if absent and not self.is_done(run):
            return self.leave(run, len(absent))
        if self.is_done(run):  # by another job, while this one was at its last part
            return self.remove_parts(run)
        opened = {part: datasets for part in there if (datasets := self.opened(part))}
        usable = {part: own for part, own in opened.items() if self.can_be_used(run, own)}
        missing = everything.difference(items_of(usable))
        foreign = missing.intersection(items_of(opened))
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
        """Report parts that cannot be joined.

        Raises:
            UserError: This job was asked for the whole run.
        """
        of_run = self.context(run)
        message = (
            f"run {run.name}: {count} {self.stage.unit}s used a different --chunk, device or other "
            "settings and cannot be combined with these: run the command again without --loo_ids, "
            f"or give all jobs of a run the same --chunk (here {of_run.chunk})"
        )
        if len(self.stage.wanted_items(of_run)) == self.stage.num_items(of_run):
            raise UserError(message)
        print(message, file=sys.stderr)

    def leave(self, run: Run, count: int) -> None:
        """Report that other jobs have to finish a run."""
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
