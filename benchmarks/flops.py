"""Arithmetic of training and gradients against what the machine's matrix product reaches.

    python benchmarks/flops.py                             # CPU, one thread
    python benchmarks/flops.py --device cuda --chunk 31    # LOO members of 10 per class, stacked

FLOPs are counted by running the stage's own functions under ``FlopCounterMode`` on the CPU: matrix
products and convolutions, forward and backward; not element-wise work (activations, pooling, Adam)
and not the eigendecomposition of the Gauss-Newton dual. What remains to 100 % of peak is therefore
that work, memory traffic, and small matrices.

Reads   data/<task>/
Writes  a markdown table and CSV to stdout; with --output PREFIX also PREFIX.md and PREFIX.csv
Takes   15 seconds on one CPU core
"""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from report import publish, seconds
from torch.utils.flop_counter import FlopCounterMode

from bayestda.curvature.filters import ridge
from bayestda.errors import UserError
from bayestda.experiments.flags import count
from bayestda.experiments.grid import Experiment
from bayestda.experiments.stages.context import Context, choose_device
from bayestda.experiments.stages.options import Options
from bayestda.experiments.stages.systems import Cnn
from bayestda.experiments.terminal import guarded
from bayestda.gradients.sample import SampleGradients
from bayestda.methods.grad_dot import grad_dot
from bayestda.methods.influence import filtered_influence
from bayestda.model.precision import matmul_precision
from bayestda.retraining.leave_one_out import removals
from bayestda.training.loop import losses, train

MATMUL_SIZE = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True)
class Peak:
    """A measured rate of float32 matrix products, named by the circumstances."""

    name: str
    size: int
    flop_per_s: float


@dataclass(frozen=True)
class Work:
    """A stage's computation.

    Attributes:
        name: of the row.
        run: does it, on the context's device.
        members: copies of the network that it is done for.
    """

    name: str
    run: Callable[[], object]
    members: int = 1


def stages(context: Context, chunk: int, *, tf32: bool = False) -> list[Work]:
    """Training and evaluating a chunk of LOO members, gradients and dual of one checkpoint.

    Args:
        context: of a run; its initial parameters stand for every checkpoint's.
        chunk: members trained together, stacked if more than 1.
        tf32: TensorFloat-32 in training.
    """
    split, layout = context.split, context.layout
    num_train = len(split.train.y)
    weight_RN = removals(num_train, range(num_train + 1)).to(context.device)
    members = context.members(weight_RN.repeat(-(-chunk // len(weight_RN)), 1)[:chunk])
    theta_RP = layout.read(context.network).repeat(chunk, 1)
    common = context.network, context.objective

    def gradients() -> SampleGradients:
        return SampleGradients(
            *common, theta_RP[0],
            train=split.train, test=split.test, memory_bytes=context.memory_bytes,
        )  # fmt: skip

    def training() -> None:
        list(train(*common, split.train, context.recipe, members, chunk=chunk, tf32=tf32))

    def evaluation() -> None:
        losses(*common, theta_RP, split.test, stacked=chunk > 1)

    return [
        Work("train" + (" (TF32)" if tf32 else ""), training, chunk),
        Work("evaluate", evaluation, chunk),
        Work("gradients and their products", lambda: grad_dot(gradients())),
        Work("Gauss-Newton dual", lambda: filtered_influence(gradients(), ridge(0.1))),
    ]


def flop(work: Work) -> int:
    """Floating point operations of a computation on the CPU."""
    with FlopCounterMode(display=False) as counter:
        work.run()
    return counter.get_total_flops()


def peak(device: str, *, threads: int = 1, tf32: bool = False) -> Peak:
    """Rate of the product of two large square float32 matrices."""
    kind = torch.device(device).type
    size, repeats = MATMUL_SIZE[kind], 10
    left_II, right_II = (torch.randn(size, size, device=device) for _ in range(2))
    with _threads(threads), matmul_precision(tf32):
        torch.mm(left_II, right_II)
        taken = min(seconds(lambda: torch.mm(left_II, right_II), device) for _ in range(repeats))
    on_cpu = f"{threads} thread{'s' * (threads > 1)}"
    name = on_cpu if kind == "cpu" else "TF32" if tf32 else "float32"
    return Peak(name, size, 2 * size**3 / taken)


def measure(on_device: list[Work], counted: list[Work], rate: Peak, device: str) -> list[dict]:
    """A row for each stage: arithmetic from one list of works, time from the other."""
    rows = []
    for timed, single in zip(on_device, counted, strict=True):
        timed.run()
        taken = seconds(timed.run, device, repeats=3)
        members = f", {timed.members} members" if timed.members > 1 else ""
        rows.append(_row(timed.name + members, flop(single) * timed.members, taken, rate))
    return rows


def _row(stage: str, total_flop: float, taken_s: float, rate: Peak) -> dict:
    return {
        "stage": stage,
        "GFLOP": total_flop / 1e9,
        "seconds": taken_s,
        "GFLOP/s": total_flop / taken_s / 1e9,
        "share of peak": total_flop / taken_s / rate.flop_per_s,
        "peak": rate.name,
    }


def _peak_row(rate: Peak) -> dict:
    total_flop = 2.0 * rate.size**3
    return _row(f"matmul {rate.size}", total_flop, total_flop / rate.flop_per_s, rate)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _table(flags: Namespace, all_threads: int) -> pd.DataFrame:
    device = choose_device(flags.device, None)
    kind = torch.device(device).type
    if kind not in MATMUL_SIZE or (flags.tf32 and kind == "cpu"):
        raise UserError(f"cannot measure on {device}: --device is cpu or cuda, --tf32 needs cuda")
    experiment = Experiment("cnn2", flags.task, flags.num_per_class)
    run = experiment.runs()[0]
    system = Cnn(experiment)
    context = Context(system, run, Options(device=device))
    on_cpu = context if kind == "cpu" else Context(system, run, Options())
    rate = peak(device)
    rows = [_peak_row(rate)]
    if kind == "cpu" and all_threads > 1:
        rows.append(_peak_row(peak(device, threads=all_threads)))
    chunk = flags.chunk or (1 if kind == "cpu" else 1 + len(context.split.train.y))
    counted = stages(on_cpu, 1)
    rows += measure(stages(context, chunk), counted, rate, device)
    if flags.tf32:
        faster = peak(device, tf32=True)
        training = stages(context, chunk, tf32=True)[:1]
        rows += [_peak_row(faster), *measure(training, counted[:1], faster, device)]
    return pd.DataFrame(rows)


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="mnist3", help="mnist3 or cifar10")
    parser.add_argument("--num_per_class", type=count, default=10, help="size per class")
    parser.add_argument("--device", help="default: cuda if any, else cpu")
    parser.add_argument("--chunk", type=count, help="members trained together; default: 1 on a "
                        "CPU, on a GPU the base run and its LOO runs")  # fmt: skip
    parser.add_argument("--tf32", action="store_true", help="also TensorFloat-32, on a GPU")
    parser.add_argument("--output", type=Path, metavar="PREFIX", help="also write files")
    return parser.parse_args()


def _main() -> None:
    flags = _parse()
    all_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    notes = [
        f"cnn2_{flags.task}_{flags.num_per_class}pc; train: a full run, forward and backward; "
        "evaluate: all test examples; gradients and dual: of one checkpoint, from scratch. "
        "Median of 3 (matmul: best of 10)."
    ]
    try:
        table = _table(flags, all_threads)
    except torch.OutOfMemoryError as error:
        raise UserError("the GPU is out of memory: choose a smaller --chunk") from error
    publish(table, notes, flags.output)


if __name__ == "__main__":
    guarded(_main)
