"""Worker processes of one thread each, so that numbers do not depend on how many there are."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import resource_tracker

import torch
from threadpoolctl import threadpool_limits

from bayestda.errors import UserError
from bayestda.experiments.stages.job import Job, Part
from bayestda.experiments.stages.options import default_jobs


def computed(job: Job, todo: list[Part]) -> Iterator[Part]:
    """Yield parts as they get done, here or in worker processes."""
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
                    "a worker process was killed, perhaps because memory ran out: run the same "
                    f"command again with a smaller --memory_gb or --jobs (now {jobs})"
                ) from error
            raise


@contextmanager
def interruption_deferred() -> Iterator[None]:
    """Let Ctrl-C wait; processes that start meanwhile are deaf to it, even while they import."""
    resource_tracker.ensure_running()  # its start would end the deferral
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    """Take one thread, leave Ctrl-C to the parent, and end when the parent has ended."""
    settle_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def settle_process() -> None:
    """Take one thread and deterministic convolutions, and keep memory that is freed."""
    torch.set_num_threads(1)
    threadpool_limits(1, user_api="blas")  # numpy's products, whose sums depend on it
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # glibc: else each batch's tensors are mapped anew
            for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
                libc.mallopt(option, 2**30)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
