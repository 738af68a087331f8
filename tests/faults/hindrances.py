"""What a process does to itself before it begins, to meet a fault at a certain place."""

import ctypes
import itertools
import os
import resource
import shutil
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from bayestda.training import recipe


def killed_at_write(number: int, moment: str) -> partial:
    """kill -9 at the n-th file: when it is half written, or when it has just got its name."""
    return partial(_die_at_write, number, moment)


def _die_at_write(number: int, moment: str) -> None:
    plain, count = Path.replace, itertools.count(1)

    def replaced(self: Path, target: Path) -> Path:
        last = next(count) == number
        if last and moment == "half written":
            os.truncate(self, self.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        result = plain(self, target)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    Path.replace = replaced


def killed_while_parts_are_removed() -> None:
    """kill -9 when the first of a finished run's parts is gone."""

    def removed(folder: Path, ignore_errors: bool = False) -> None:
        files = sorted(Path(folder).glob("*"))
        if files or not ignore_errors:
            files[0].unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    shutil.rmtree = removed


def small_files() -> None:
    """No file may grow beyond 3 kB: a full disk for those who may not mount one."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))


def without_privileges() -> None:
    """Root becomes a user whom a folder's permissions bind."""
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, nothing):
        raise OSError(ctypes.get_errno(), "capset")


def little_memory(megabytes: int) -> partial:
    """So much address space beyond what is taken already."""
    return partial(_limit_memory, megabytes)


def _limit_memory(megabytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def clock_set_back() -> None:
    """The time of day is an hour earlier each time that one looks, since the year 2001."""
    import tqdm.std

    hours = itertools.count()
    time.time = tqdm.std.time = lambda: 1e9 - 3600 * next(hours)
    time.time_ns = lambda: int(time.time() * 1e9)


def short_further_training() -> None:
    """Concrete: 3 epochs for the final model and 2 of further training without 9 examples."""
    from bayestda.experiments import final_models

    protocol = final_models.PROTOCOLS["concrete"]
    final_models.PROTOCOLS["concrete"] = replace(
        protocol, training=replace(protocol.training, epochs=3), num_left_out=9, num_evaluated=5,
        further={name: replace(own, epochs=2) for name, own in protocol.further.items()},
    )  # fmt: skip


def short_recipes() -> None:
    """Recipes that distributional scripts make have 2 epochs at most."""

    plain = recipe.Recipe.__post_init__

    def shortened(self) -> None:
        object.__setattr__(self, "epochs", min(self.epochs, 2))
        plain(self)

    recipe.Recipe.__post_init__ = shortened


def tiny_vit(folder: Path) -> partial:
    """A random ViT of a few hundred parameters, saved as ``--model`` takes it."""
    return partial(_save_tiny_vit, folder)


def _save_tiny_vit(folder: Path) -> None:
    from tiny_vit import save

    save(folder)


def planted_scores() -> None:
    """Scores of five methods and predictions of three runs, about the project's own images."""
    from planted_scores import write_scores
    from score_files import write_predictions

    from bayestda.experiments.grid import Experiment

    write_scores(Experiment("cnn2", "mnist3", 10), num_runs=3)
    write_predictions("cnn2_mnist3_10pc", [1, 2, 3])
