"""ViT-B/16 with LoRA on a GPU: training, gradients and Jacobians, against its matrix product.

    python benchmarks/vit_gpu.py                           # the GPU
    python benchmarks/vit_gpu.py --small --device cpu      # the same code on a tiny network

Weights and images are random: neither changes the speed. A run is timed by a few steps and
multiplied out. FLOPs are counted by ``FlopCounterMode``: matrix products and convolutions. xarray,
datasets and h5netcdf are not needed.

Reads   nothing
Writes  two markdown tables and CSV to stdout; with --output PREFIX also PREFIX[_hours].md and .csv
Takes   not measured yet on a GPU; with --small 7 seconds on one CPU core
"""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from report import publish, seconds
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bayestda.curvature.filters import ridge
from bayestda.experiments.flags import count
from bayestda.experiments.grid import VIT_GRID, seeds
from bayestda.experiments.networks import pretrained
from bayestda.experiments.networks.vit import ViT
from bayestda.experiments.terminal import guarded
from bayestda.gradients.factored import MAX_BLOCK
from bayestda.gradients.hooks import capture
from bayestda.gradients.looks import ways_of
from bayestda.gradients.sample import SampleGradients, output_cotangents, value_cotangents
from bayestda.methods.grad_cos import grad_cos
from bayestda.methods.grad_dot import grad_dot
from bayestda.methods.influence import filtered_influence
from bayestda.model.examples import Data
from bayestda.model.losses import Classification
from bayestda.model.parameters import Parameters
from bayestda.model.precision import matmul_precision
from bayestda.training.loop import losses, train
from bayestda.training.members import Members, data_order
from bayestda.training.memory import budget_bytes
from bayestda.training.recipe import Recipe

NUM_TEST = {"mnist3": 900, "cifar10": 500}
RECIPE = VIT_GRID[-1].recipe  # of CIFAR10; experiments differ in their epochs only
DAMPINGS = tuple(10.0**exponent for exponent in range(-3, 4))  # as many as the stage's
TRAINING, SINGLE_STEP, EVALUATION = "training", "step on one image", "evaluation"
TINY = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "image_size": 16, "patch_size": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """An experiment's sizes."""

    name: str
    num_train: int
    num_test: int
    recipe: Recipe
    num_seeds: int


@dataclass(frozen=True)
class Sizes:
    """What is measured, and on how much.

    Attributes:
        config: of ``ViTConfig``, where it is not ViT-B/16.
        scales: experiments whose hours are estimated.
        members: how many are trained together, in turn.
        steps: of training that are timed.
        images: that exist; those of an evaluation.
        block: images of a forward pass, and of gradients, at a time.
        matmul: rows of the matrices whose product is the peak.
    """

    scales: tuple[Scale, ...]
    config: dict = field(default_factory=dict)
    members: tuple[int, ...] = (1, 2, 4, 8, 16)
    steps: int = 4
    images: int = 100
    block: int = MAX_BLOCK
    matmul: int = 8192


def paper_scales() -> tuple[Scale, ...]:
    """Experiments 9 and 10."""
    return tuple(
        Scale(
            name=experiment.name,
            num_train=experiment.num_train,
            num_test=NUM_TEST[experiment.task],
            recipe=experiment.recipe,
            num_seeds=len(seeds()),
        )
        for experiment in VIT_GRID
    )


def small() -> Sizes:
    """The same in seconds on a CPU."""
    scales = tuple(replace(scale, num_train=6, num_test=4) for scale in paper_scales())
    return Sizes(scales, TINY, members=(1, 2), steps=1, images=6, block=4, matmul=256)


@dataclass(frozen=True)
class Case:
    """A network with adapters, and images as pixels and as the network takes them."""

    network: ViT
    pixels_NCHW: Tensor
    data: Data

    @classmethod
    def of(cls, config: dict, num_images: int, device: torch.device) -> "Case":
        """Everything random, adapters too: products of zeros would be faster than they are."""
        network = _network(config).to(device)
        side = network.model.config.image_size
        pixels_NCHW = torch.randn(num_images, 3, side, side, device=device)
        with torch.no_grad():
            prepared = torch.cat([network.prepare(some) for some in pixels_NCHW.split(MAX_BLOCK)])
        y_N = torch.arange(num_images, device=device) % pretrained.NUM_CLASSES
        return cls(network, pixels_NCHW, Data(prepared, y_N, np.arange(num_images)))

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.data.y.device

    @property
    def theta_P(self) -> Tensor:
        """The trainable parameters."""
        return Parameters(self.network).read(self.network)

    def first(self, number: int) -> Data:
        """The first examples, from the beginning again where there are too few."""
        at = torch.arange(number, device=self.device) % len(self.data.y)
        return Data(self.data.x[at], self.data.y[at], np.arange(number))


def _network(config: dict) -> ViT:
    transformers = pretrained.transformers()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        vit = transformers.ViTConfig(num_labels=pretrained.NUM_CLASSES, **config)
        network = pretrained.adapted(transformers.ViTForImageClassification(vit).eval())
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.02)
    return network.eval()


@dataclass(frozen=True)
class Work:
    """Something to be timed.

    Attributes:
        name, precision: of the row.
        images: that ``run`` handles, each as often as there are members.
        run: does it.
        members: copies of the network.
    """

    name: str
    precision: str
    images: int
    run: Callable[[], object]
    members: int = 1


@contextmanager
def precision_of(name: str, device: torch.device) -> Iterator[None]:
    """float32, TF32, or bfloat16 by autocast (which no stage offers)."""
    with matmul_precision(name == "TF32"):
        if name == "bfloat16":
            # Without the cache, which would keep parameters as they were before a step.
            with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
                yield
        else:
            yield


def peaks(size: int, device: torch.device) -> dict[str, float]:
    """FLOP/s of the product of two large matrices, by precision."""
    return {name: _peak(size, name, device) for name in _precisions(device)}


def _peak(size: int, precision: str, device: torch.device) -> float:
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    left_II, right_II = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    with matmul_precision(precision == "TF32"):
        torch.mm(left_II, right_II)
        taken_s = seconds(lambda: torch.mm(left_II, right_II), str(device), repeats=10)
    return 2 * size**3 / taken_s


def _precisions(device: torch.device) -> tuple[str, ...]:
    return ("float32", "TF32", "bfloat16") if device.type == "cuda" else ("float32", "bfloat16")


def works(case: Case, sizes: Sizes) -> Iterator[Work]:
    """All rows: forward and backward passes, stacked training and evaluation, gradients."""
    block, precisions = case.first(sizes.block), _precisions(case.device)
    for precision in precisions:
        yield from passes(case, block, precision)
        for members in sizes.members:
            yield training(case, sizes.steps, members, precision)
    for members in sizes.members:
        yield evaluation(case, members)
        yield training(case, 1, members, "float32", batch_size=1)
    for precision in precisions:
        if precision != "bfloat16":  # too coarse for scores
            yield from gradients(case, block, precision)


def passes(case: Case, block: Data, precision: str) -> Iterator[Work]:
    """A batch through transformers and peft, from pixels, and through our forward pass."""
    pixels_BCHW = case.pixels_NCHW[torch.from_numpy(block.index) % len(case.pixels_NCHW)]
    forwards = {
        "transformers + peft": lambda: case.network.model(pixel_values=pixels_BCHW).logits,
        "ours": lambda: case.network(block.x),
    }
    for name, output in forwards.items():
        common = precision, len(block.y)
        yield Work(f"forward: {name}", *common, torch.no_grad()(output))
        yield Work(f"forward, backward: {name}", *common, partial(_backward, output, block.y))


def _backward(output: Callable[[], Tensor], y_B: Tensor) -> None:
    Classification().loss(output(), y_B).mean().backward()


def training(
    case: Case, steps: int, members: int, precision: str, batch_size: int = RECIPE.batch_size
) -> Work:
    """Some steps of stacked members, with dropout, as the stages do them."""
    num_images = steps * batch_size
    data = case.first(num_images)
    recipe = replace(RECIPE, epochs=1, keep=1, batch_size=batch_size)
    order = data_order(0, num_images, 1).to(case.device)
    weight_RN = torch.ones(members, num_images, device=case.device)
    stacked = Members(case.theta_P[None], order, weight_RN, dropout_seed=0)

    def run() -> None:
        list(
            train(
                case.network, Classification(), data, recipe, stacked,
                chunk=members, tf32=precision == "TF32",
            )
        )  # fmt: skip

    name = TRAINING if batch_size > 1 else SINGLE_STEP
    return Work(name, precision, num_images, run, members)


def evaluation(case: Case, members: int) -> Work:
    """Test losses, always in float32."""
    theta_RP, data = case.theta_P.repeat(members, 1), case.data
    run = partial(losses, case.network, Classification(), theta_RP, data, stacked=members > 1)
    return Work(EVALUATION, "float32", len(data.y), run, members)


def gradients(case: Case, block: Data, precision: str) -> Iterator[Work]:
    """Per-example gradients of the loss, and Jacobians of the ten outputs."""
    cotangents = {
        "gradients": value_cotangents(Classification().loss, block.y),
        "Jacobians": output_cotangents,
    }
    ways = ways_of(case.network, Classification(), block.x)
    for name, each in cotangents.items():
        run = partial(capture, case.network, Classification(), block.x, each, ways)
        yield Work(name, precision, len(block.y), run)


def measure(case: Case, sizes: Sizes, rates: dict[str, float]) -> pd.DataFrame:
    """A row for each work that fits into memory; FLOPs are those of its first row."""
    rows, flop_per_image = [], {}
    for work in works(case, sizes):
        try:
            taken_s = _taken(work, case.device)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            continue
        if work.name not in flop_per_image:  # with one member
            flop_per_image[work.name] = _flop(work) / work.images
        speed = work.members * work.images / taken_s
        rows.append(_row(work, speed, flop_per_image[work.name], rates))
    return pd.DataFrame(rows)


def _taken(work: Work, device: torch.device) -> float:
    with precision_of(work.precision, device):
        work.run()
        return seconds(work.run, str(device), repeats=3)


def _flop(work: Work) -> int:
    with FlopCounterMode(display=False) as counter:
        work.run()
    return counter.get_total_flops()


def _row(work: Work, images_per_s: float, flop_per_image: float, rates: dict[str, float]) -> dict:
    flop_per_s = flop_per_image * images_per_s
    return {
        "work": work.name,
        "precision": work.precision,
        "members": work.members,
        "images/s": images_per_s,
        "GFLOP/image": flop_per_image / 1e9,
        "TFLOP/s": flop_per_s / 1e12,
        **{f"of {name}": flop_per_s / rate for name, rate in rates.items()},
    }


def best(table: pd.DataFrame, work: str, precision: str = "float32") -> float:
    """Most images/s of a work, over the numbers of members."""
    rows = table[(table["work"] == work) & (table["precision"] == precision)]
    return float(rows["images/s"].max())


def scores_s(case: Case, scale: Scale) -> float:
    """Seconds of Grad-Dot, Grad-Cos and influence for one checkpoint: all of that work, timed."""

    def run() -> None:
        gradients = SampleGradients(
            case.network, Classification(), case.theta_P,
            train=case.first(scale.num_train), test=case.first(scale.num_test),
            memory_bytes=budget_bytes(None, case.device),
        )  # fmt: skip
        grad_dot(gradients), grad_cos(gradients)
        for damping in DAMPINGS:
            filtered_influence(gradients, ridge(damping))

    return seconds(run, str(case.device))


def hours(scale: Scale, table: pd.DataFrame, precision: str, checkpoint_s: float) -> dict:
    """GPU hours of a whole experiment.

    Args:
        scale: the experiment.
        table: of :func:`measure`; the number of members that was fastest counts.
        precision: of training; everything else is in float32.
        checkpoint_s: of :func:`scores_s`.
    """
    num_train, num_test, checkpoints = scale.num_train, scale.num_test, scale.recipe.keep
    images_s = scale.recipe.epochs * num_train / best(table, TRAINING, precision)
    test_s = checkpoints * num_test / best(table, EVALUATION)
    step_s = checkpoints / best(table, SINGLE_STEP)
    parts_s = {
        "train": images_s + test_s,
        "LOO": (num_train + 1) * (images_s + test_s),  # with the base run
        "ATS": num_train * (step_s + test_s) + test_s,
        "gradient methods": checkpoints * checkpoint_s,
    }
    parts_h = {name: each * scale.num_seeds / 3600 for name, each in parts_s.items()}
    whole_h = sum(parts_h.values())
    return {"experiment": scale.name, "training in": precision, **parts_h, "GPU hours": whole_h}


def estimate(case: Case, sizes: Sizes, table: pd.DataFrame) -> pd.DataFrame:
    """Hours of every experiment, in every precision that the stages train in."""
    rows = []
    for scale in sizes.scales:
        checkpoint_s = scores_s(case, scale)
        for precision in _precisions(case.device):
            if precision != "bfloat16":
                rows.append(hours(scale, table, precision, checkpoint_s))
    return pd.DataFrame(rows)


def notes(table: pd.DataFrame, sizes: Sizes, rates: dict[str, float], where: str) -> list[str]:
    """What the first table leaves unsaid: the peaks, a whole run, gains."""
    peak = ", ".join(f"{name} {rate / 1e12:.3g} TFLOP/s" for name, rate in rates.items())
    alone = table[(table["work"] == TRAINING) & (table["members"] == 1)].set_index("precision")
    num_images = RECIPE.epochs * sizes.scales[-1].num_train
    runs = ", ".join(f"{name} {num_images / v:.3g} s" for name, v in alone["images/s"].items())
    gains = ", ".join(f"{name} {_gain(table, name):.3g}" for name in rates)
    return [
        f"{where}, torch {torch.__version__}. Products of {sizes.matmul} x {sizes.matmul} "
        f"matrices: {peak}.",
        f"One fine-tuning run of {RECIPE.epochs} epochs and {num_images // RECIPE.epochs} images, "
        f"multiplied out from {sizes.steps} steps: {runs}.",
        f"Forward and backward pass, ours / transformers + peft: {gains}. Images are prepared "
        "once for all runs; that is not timed. bfloat16 is autocast, which no stage offers.",
    ]


def _gain(table: pd.DataFrame, precision: str) -> float:
    own, usual = (
        best(table, f"forward, backward: {side}", precision)
        for side in ("ours", "transformers + peft")
    )
    return own / usual


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a tiny network, to see that it runs")
    parser.add_argument("--device", type=torch.device, default="cuda", help="default: cuda")
    parser.add_argument("--steps", type=count, help="of training that are timed; default: 4")
    parser.add_argument("--output", type=Path, metavar="PREFIX", help="also write files")
    flags = parser.parse_args()
    if flags.device.type == "cuda" and not torch.cuda.is_available():
        parser.error("no NVIDIA GPU is found: use --small --device cpu to see that it runs")
    return flags


def _main() -> None:
    flags = _parse()
    sizes = small() if flags.small else Sizes(paper_scales())
    sizes = replace(sizes, steps=flags.steps or sizes.steps)
    on_gpu = flags.device.type == "cuda"
    where = torch.cuda.get_device_name(flags.device) if on_gpu else "CPU"
    rates = peaks(sizes.matmul, flags.device)
    case = Case.of(sizes.config, sizes.images, flags.device)
    table = measure(case, sizes, rates)
    publish(table, notes(table, sizes, rates, where), flags.output)
    print()
    whole = "Hours on one such GPU, multiplied out from the rates above; gradient methods from all "
    whole += "of the work of one checkpoint."
    also = flags.output and flags.output.with_name(f"{flags.output.name}_hours")
    publish(estimate(case, sizes, table), [whole], also)


if __name__ == "__main__":
    guarded(_main)
