"""Scores of ever more training examples in fixed memory: time, peak memory, bytes on disk.

    python benchmarks/scale.py                       # all systems and sizes, five methods

Every measurement is a process of its own, in which ``tda.attribute`` streams the scores of one
sample of θ to a file. Peak memory is that of the process above what it took before: with torch,
network and examples loaded, and a few examples scored once. Linux only.

Writes  a markdown table and CSV to stdout; with --output PREFIX also PREFIX.md and PREFIX.csv
Takes   4 minutes on 2 cores without influence_ekfac
"""

import json
import os
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from report import publish
from torch import Tensor, nn

import bayestda as tda
from bayestda.errors import UserError
from bayestda.experiments import networks
from bayestda.experiments.flags import count
from bayestda.experiments.terminal import guarded
from bayestda.gradients import sample

Data = tuple[Tensor, Tensor]
METHODS: dict[str, dict] = {
    "grad_dot": {},
    "grad_cos": {},
    "influence_projected": {"damping": 0.1, "rank": 16},
    "influence_ekfac": {"damping": 0.1},
    "trak": {"projection": 64, "damping": 1e-3},
    "datainf": {},
}
DEFAULT_METHODS = ("grad_dot", "grad_cos", "influence_projected", "influence_ekfac", "trak")
FEW = 8  # examples of the run before the measurement


@dataclass(frozen=True)
class System:
    """A network and as many examples as asked for.

    Attributes:
        build: makes the network.
        examples: (x, y) of a number of them, from a seed.
        num_train: sizes of the training set, rising.
        num_test: size of the test set.
        memory_gb: the budget.
    """

    build: Callable[[], nn.Module]
    examples: Callable[[int, int], Data]
    num_train: tuple[int, ...]
    num_test: int
    memory_gb: float


def mlp() -> nn.Module:
    """64-256-10: 19,210 parameters."""
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))


def digits(number: int, seed: int) -> Data:
    """scikit-learn's 1,797 digits, again and again, each time with other noise."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    at = torch.arange(number) % len(labels)
    noise = torch.randn(number, 64, generator=torch.Generator().manual_seed(seed))
    return torch.tensor(pixels / 16).float()[at] + 0.1 * noise, torch.tensor(labels)[at]


def noise_images(number: int, seed: int) -> Data:
    """Images of noise, of MNIST's size, with random labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(number, 1, 28, 28, generator=generator)
    return images, torch.randint(10, (number,), generator=generator)


SYSTEMS = {
    "mlp": System(mlp, digits, (12_500, 25_000, 50_000, 100_000), 1_000, 0.25),
    "cnn2": System(
        lambda: networks.build("cnn2", "mnist3", 0), noise_images, (1_250, 2_500, 5_000), 500, 0.5
    ),
}


def measure(system: System, method: str, num_train: int, folder: Path) -> dict[str, float]:
    """One run of ``tda.attribute`` in this process.

    Args:
        system: what is scored; its budget is kept to.
        method: one of ``METHODS``.
        num_train: N.
        folder: for scores and gradients that do not fit.

    Returns:
        Seconds, GB, and gradients taken for each one needed.
    """
    torch.manual_seed(0)
    posterior = tda.Posterior.of_networks({0: [system.build()]})
    train, test = system.examples(num_train, 1), system.examples(system.num_test, 2)

    def score(train: Data, test: Data, name: str) -> Path:
        tda.attribute(
            posterior, tda.Classification(), train, test, method=method, output=folder / name,
            memory_gb=system.memory_gb, scratch=folder, **METHODS[method],
        )  # fmt: skip
        return folder / name

    few = [(x[:FEW], y[:FEW]) for x, y in (train, test)]
    score(few[0], few[1], "few.nc")
    taken = _counted()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, written = _status("VmRSS"), _written()
    start, cpu_start = time.perf_counter(), time.process_time()
    path = score(train, test, "scores.nc")
    return {
        "seconds": time.perf_counter() - start,
        "cpu_s": time.process_time() - cpu_start,
        "peak_gb": (_status("VmHWM") - before) / 1e9,
        "scores_gb": path.stat().st_size / 1e9,
        "scratch_gb": (_written() - written - path.stat().st_size) / 1e9,
        "gradients": sum(taken) / (num_train + system.num_test),
    }


def _counted() -> list[int]:
    """A list that fills with the sizes of batches whose gradients are taken."""
    taken: list[int] = []
    capture = sample.capture

    def counting(network, objective, x_B, *others, **more):
        taken.append(len(x_B))
        return capture(network, objective, x_B, *others, **more)

    sample.capture = counting
    return taken


def _status(name: str) -> int:
    """Bytes of memory of this process: ``VmRSS`` now, ``VmHWM`` at the most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def _written() -> int:
    """Bytes that this process has written to files."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("wchar")).split()[1])


def in_own_process(name: str, method: str, num_train: int, flags: Namespace) -> dict:
    """A row of the table.

    Raises:
        UserError: the measurement failed; the message is its last line.
    """
    with TemporaryDirectory(dir=flags.scratch) as folder:
        command = [
            sys.executable, __file__, "--one", name, method, str(num_train), folder,
            "--threads", str(flags.threads),
        ]  # fmt: skip
        run = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    if run.returncode:
        raise UserError(f"{name} {method} {num_train}: {run.stderr.strip().splitlines()[-1]}")
    system = SYSTEMS[name]
    sizes = {"N": num_train, "M": system.num_test, "memory_gb": system.memory_gb}
    row = {"system": name, "method": method, **sizes, **json.loads(run.stdout)}
    print(row, file=sys.stderr)
    return row


def slopes(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the growth of time: d log cpu_s / d log N over a method's sizes."""

    def slope(rows: pd.DataFrame) -> float:
        if len(rows) < 2:
            return float("nan")
        return float(np.polyfit(np.log(rows["N"]), np.log(rows["cpu_s"]), 1)[0])

    of_method = {key: slope(rows) for key, rows in table.groupby(["system", "method"])}
    keys = zip(table["system"], table["method"], strict=True)
    return table.assign(slope=[of_method[key] for key in keys])


def _notes(flags: Namespace, load: float) -> list[str]:
    return [
        f"{flags.threads} threads, one sample of θ, float32. mlp: 64-256-10 on scikit-learn's "
        "digits, repeated with noise; cnn2: images of noise. Networks as initialised.",
        "peak_gb: the process's peak above what it took before; scores_gb: the file of scores; "
        "scratch_gb: gradients written to disk; gradients: those taken by each one of the N + M; "
        "cpu_s: seconds of all threads, which other work on the machine disturbs less; slope: of "
        "log cpu_s over log N, 1 where time is linear in N.",
        f"Load average before the run: {load:.1f}; much above 0 the machine was busy with other "
        "work and times are to be measured again.",
    ]


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", choices=tuple(SYSTEMS), default=tuple(SYSTEMS))
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=DEFAULT_METHODS)
    parser.add_argument("--num_train", nargs="+", type=count, help="sizes in the place of all")
    parser.add_argument("--threads", type=count, default=2, help="of each process")
    parser.add_argument("--scratch", type=Path, help="folder on a disk; default: temporary files'")
    parser.add_argument("--output", type=Path, metavar="PREFIX", help="also write files")
    parser.add_argument("--one", nargs=4, metavar=("SYSTEM", "METHOD", "N", "FOLDER"),
                        help="a single measurement, in this process, as JSON")  # fmt: skip
    return parser.parse_args()


def _main() -> None:
    flags, load_average = _parse(), os.getloadavg()[0]
    if flags.one:
        torch.set_num_threads(flags.threads)
        name, method, num_train, folder = flags.one
        print(json.dumps(measure(SYSTEMS[name], method, int(num_train), Path(folder))))
        return
    rows = [
        in_own_process(name, method, num_train, flags)
        for name in flags.systems
        for method in flags.methods
        for num_train in flags.num_train or SYSTEMS[name].num_train
    ]
    publish(slopes(pd.DataFrame(rows)), _notes(flags, load_average), flags.output)


if __name__ == "__main__":
    guarded(_main)
