"""Per-example gradients of the ViT's adapters and head: one image at a time, vmap, hooks.

    python benchmarks/vit_gradients.py

Every way computes the same N gradients of all trainable parameters, at the same θ and with as many
threads, by default one per core. In float64 all have to agree with the first; the script fails if
they do not.

Reads   data/<task>/, models/vit_small/
Writes  a markdown table and CSV to stdout; with --output PREFIX also PREFIX.md and PREFIX.csv
Takes   25 seconds on 2 CPU cores
"""

import copy
import os
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from flops import peak
from report import publish, seconds
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils.flop_counter import FlopCounterMode

from bayestda.errors import UserError
from bayestda.experiments.data import subsets
from bayestda.experiments.flags import count
from bayestda.experiments.grid import Experiment
from bayestda.experiments.networks import pretrained
from bayestda.experiments.networks.vit import ViT
from bayestda.experiments.terminal import guarded
from bayestda.gradients.factored import MAX_BLOCK, Factored, Rows
from bayestda.gradients.hooks import capture
from bayestda.gradients.looks import ways_of
from bayestda.gradients.sample import value_cotangents
from bayestda.model.losses import Classification
from bayestda.model.parameters import Parameters

SOURCE = "vit_small"
TOLERANCE = 1e-9  # of float64 gradients


@dataclass(frozen=True)
class Case:
    """A fine-tuned network and its images, as pixels and as the network takes them."""

    network: ViT
    pixels_NCHW: Tensor
    prepared_NT4D: Tensor
    y_N: Tensor

    def double(self) -> "Case":
        """The same θ and pixels in float64; images are prepared anew."""
        network = copy.deepcopy(self.network).double()
        return case_of(network, self.pixels_NCHW.double(), self.y_N)


class Pixels(pretrained.Inputs):
    """What the usual code feeds its model with."""

    def _prepared(self, rgb_N3HW: Tensor, resizing: dict[str, bool]) -> Tensor:
        return self.processor(rgb_N3HW, return_tensors="pt", **resizing)["pixel_values"]


def load(task: str, num_per_class: int, seed: int) -> Case:
    """vit_small after some steps on the training images: then no adapter's gradient is 0."""
    experiment = Experiment(SOURCE, task, num_per_class)
    train = subsets.load(experiment, "cpu", Pixels(SOURCE, "cpu")).train
    network = pretrained.lora_vit(SOURCE, seed).eval()
    case = case_of(network, train.x, train.y)
    _fine_tune(case, steps=5)
    return case


def case_of(network: ViT, pixels_NCHW: Tensor, y_N: Tensor) -> Case:
    """With the images prepared for the network."""
    with torch.no_grad():
        return Case(network, pixels_NCHW, network.prepare(pixels_NCHW), y_N)


def _fine_tune(case: Case, steps: int) -> None:
    trainable = [p for p in case.network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        Classification().loss(case.network(case.prepared_NT4D), case.y_N).mean().backward()
        optimizer.step()


def usual(case: Case) -> Tensor:
    """Gradients [N P], image by image through transformers and peft, from pixels."""
    model = case.network.model
    return _one_by_one(case, lambda x_1CHW: model(pixel_values=x_1CHW).logits, case.pixels_NCHW)


def prepared(case: Case) -> Tensor:
    """Gradients [N P], image by image through our forward pass, from prepared images."""
    return _one_by_one(case, case.network, case.prepared_NT4D)


def _one_by_one(case: Case, forward: Callable[[Tensor], Tensor], x_N: Tensor) -> Tensor:
    trainable = [p for p in case.network.parameters() if p.requires_grad]
    rows = []
    for x_1, y_1 in zip(x_N.split(1), case.y_N.split(1), strict=True):
        loss = Classification().loss(forward(x_1), y_1)[0]
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, trainable)]))
    return torch.stack(rows)


def by_vmap(case: Case) -> Tensor:
    """Gradients [N P] by ``vmap(grad(·))`` over a block of prepared images."""
    layout = Parameters(case.network)
    named = layout.split(layout.read(case.network))

    def loss(named: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return Classification().loss(functional_call(case.network, named, (x[None],)), y[None])[0]

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))
    return torch.cat([layout.join(gradients(named, x_B, y_B)) for x_B, y_B in _blocks(case)])


def by_hooks(case: Case) -> list[Rows]:
    """Gradients as our stages keep them: by layer, weights of single positions as factors."""
    objective = Classification()
    ways = ways_of(case.network, objective, case.prepared_NT4D)
    return [
        capture(case.network, objective, x_B, value_cotangents(objective.loss, y_B), ways)
        for x_B, y_B in _blocks(case)
    ]


def by_hooks_formed(case: Case) -> Tensor:
    """The same as a matrix [N P]."""
    return torch.cat([formed(rows, case.network) for rows in by_hooks(case)])


def _blocks(case: Case) -> list[tuple[Tensor, Tensor]]:
    return list(zip(case.prepared_NT4D.split(MAX_BLOCK), case.y_N.split(MAX_BLOCK), strict=True))


def formed(rows: Rows, network: nn.Module) -> Tensor:
    """Rows with L = 1 as gradients [B P] in the order of θ."""
    layout, named = Parameters(network), {}
    sizes = dict(zip(layout.shapes, layout.sizes, strict=True))
    for layer, block in rows.items():
        if isinstance(block, Factored):
            values_BOI = block.delta[:, 0, :, None] * block.activation[:, None]
            num_inputs = layout.shapes[f"{layer}.weight"][-1]
            named[f"{layer}.weight"] = values_BOI[..., :num_inputs]
            named[f"{layer}.bias"] = values_BOI[..., num_inputs:]  # on a constant 1, if any
        else:
            own = {name: size for name, size in sizes.items() if name.rpartition(".")[0] == layer}
            pieces = block.values[:, 0].split(list(own.values()), dim=-1)
            named |= dict(zip(own, pieces, strict=True))
    return torch.cat([named[name].flatten(1) for name in layout.shapes], dim=-1)


WAYS: dict[str, Callable[[Case], Tensor]] = {
    "one by one: transformers + peft": usual,
    "one by one: our forward pass": prepared,
    "vmap(grad)": by_vmap,
    "hooks, formed": by_hooks_formed,
}


def differences(case: Case) -> dict[str, float]:
    """Largest difference of every way's gradients to the usual code's, in float64.

    Raises:
        UserError: some way computes something else.
    """
    double = case.double()
    expected_NP = usual(double)
    found = {name: (way(double) - expected_NP).abs().max().item() for name, way in WAYS.items()}
    wrong = [name for name, difference in found.items() if not difference <= TOLERANCE]
    if wrong:
        raise UserError(f"gradients differ from the usual code's ({', '.join(wrong)}): {found}")
    return found | {"hooks, as kept": found["hooks, formed"]}


def measure(case: Case, repeats: int) -> pd.DataFrame:
    """A row for each way; times in turn, so that a busy machine slows all of them."""
    ways = {**WAYS, "hooks, as kept": by_hooks}
    error = differences(case)
    work = {name: _flop(lambda way=way: way(case)) for name, way in ways.items()}  # warms up
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            times[name].append(seconds(lambda way=way: way(case)))
    taken = {name: min(each) for name, each in times.items()}
    threads, images = torch.get_num_threads(), len(case.y_N)
    flop_per_s = peak("cpu", threads=threads).flop_per_s
    first, second, *_ = taken.values()
    return pd.DataFrame(
        {
            "way": name,
            "ms/image": 1e3 * taken_s / images,
            "x transformers": first / taken_s,
            "x ours, one by one": second / taken_s,
            "MFLOP/image": work[name] / images / 1e6,
            "share of peak": work[name] / taken_s / flop_per_s,
            "difference": error[name],
        }
        for name, taken_s in taken.items()
    )


def _flop(run: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def _notes(case: Case, load: float) -> list[str]:
    return [
        f"{SOURCE}, {len(case.y_N)} images, {Parameters(case.network).count} trainable "
        f"parameters, {torch.get_num_threads()} threads, best time of several. Images are ready on "
        "every side: processed to pixels, and prepared for all but the first row. difference: "
        f"largest of all to the first row's, in float64; above {TOLERANCE:g} the script fails.",
        "MFLOP: matrix products and convolutions; the attention of the first row is fused and "
        "not counted. hooks, as kept: without the matrix [N P], which no method needs.",
        f"Load average before the run: {load:.1f}; much above 0 the machine was busy with other "
        "work and the numbers are to be measured again.",
    ]


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="mnist3", help="mnist3 or cifar10")
    parser.add_argument("--num_per_class", type=count, default=50, help="size per class")
    parser.add_argument("--repeats", type=count, default=7, help="measurements of each way")
    parser.add_argument("--threads", type=count, default=os.cpu_count(), help="of every way")
    parser.add_argument("--output", type=Path, metavar="PREFIX", help="also write files")
    return parser.parse_args()


def _main() -> None:
    flags, load_average = _parse(), os.getloadavg()[0]
    torch.set_num_threads(flags.threads)
    case = load(flags.task, flags.num_per_class, seed=42)
    publish(measure(case, flags.repeats), _notes(case, load_average), flags.output)


if __name__ == "__main__":
    guarded(_main)
