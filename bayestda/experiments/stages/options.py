"""The flags of a stage as its computation sees them. Importing this file does not import torch."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Flags of a stage script.

    Attributes:
        device: The torch device.
        jobs: The number of worker processes of one thread each; None: all cores. Results do not
            depend on it, but for rounding where gradients do not fit into a worker's share of
            ``memory_gb``.
        memory_gb: What all workers together may take; None: most of what is free, so that blocks of
            gradients of a large model, and rounding, may differ between two runs of one command.
        chunk: The number of members trained together; None: what fits on a GPU, 1 on a CPU.
        method: The stage's own flags, as sorted pairs.
    """

    device: str = "cpu"
    jobs: int | None = None
    memory_gb: float | None = None
    chunk: int | None = None
    method: tuple[tuple[str, object], ...] = ()

    def __getitem__(self, flag: str):
        return dict(self.method)[flag]


def default_jobs(device: str, num_parts: int) -> int:
    """Return all cores on a CPU, one process on a GPU, and never more than there are parts."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min((cores or 1) if device == "cpu" else 1, num_parts))
