"""The jobs that the Snakefile cuts the work into, and what a job takes. Does not import torch.

A job does all runs of a stage, or one run, or (leaving examples out in turn) a share of one run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Files = Callable[[str], Sequence[Path]]

MEMORY_MB = 4000  # of a job on a CPU; the largest seen is 2.0 GB (docs/cluster.md)
OWN_MB = 1000  # of that for the process itself, 0.5 GB seen, and not for what it computes
RUNTIME_MINUTES = 12 * 60  # a job's time limit; --set-resources of Snakemake sets another


def shares(num_left_out: int, num_jobs: int) -> list[tuple[int, int]]:
    """Return first and last of ``--loo_ids`` by which jobs share a run evenly.

    Args:
        num_left_out: The number of examples that are left out in turn.
        num_jobs: The number of jobs of a run; never more than there are examples.
    """
    num_jobs = max(1, min(num_jobs, num_left_out))
    bounds = [num_left_out * job // num_jobs for job in range(num_jobs + 1)]
    return list(zip(bounds[:-1], bounds[1:], strict=True))


@dataclass(frozen=True)
class StageWork:
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

    def inputs(self, per_run: bool) -> list[Path]:
        """Return the files that a job reads."""
        return [*self.needs_always, *self._files(self.needs, per_run)]

    def outputs(self, per_run: bool) -> list[Path]:
        """Return the files that a job writes."""
        return self._files(self.makes, per_run)

    def _files(self, files: Files, per_run: bool) -> list[Path]:
        runs = [self.pattern] if per_run else self.runs
        return list(dict.fromkeys(file for run in runs for file in files(run)))
