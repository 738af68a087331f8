"""What experiments 9 and 10 would cost on GPUs: counted FLOPs, and how good such a count is.

    python benchmarks/plan_vit.py                # the tables of docs/scale.md
    python benchmarks/plan_vit.py --write        # and rows of benchmarks/costs.csv

FLOPs of one image are counted by running the stages' own functions on two images through ViT-B/16
with LoRA and random weights, under ``FlopCounterMode``: matrix products and convolutions. They are
multiplied by the images that a stage passes. The check is the same count for CNN2 and the small
ViT, against the seconds of one core that benchmarks/costs.csv has.

Reads   benchmarks/costs.csv, data/, models/vit_small/config.json
Writes  markdown tables and CSV to stdout; with --output PREFIX also files
Takes   40 seconds on one CPU core
"""

import json
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from flops import Work, flop
from report import publish
from torch import nn
from vit_gpu import NUM_TEST, Case

from tda import paths
from tda.ensemble import losses, train
from tda.errors import guarded
from tda.examples import Data
from tda.experiments import VIT_GRID, Experiment, Recipe, seeds
from tda.gradients import output_cotangents, value_cotangents
from tda.hooks import capture, simple_layers
from tda.members import Members, data_order
from tda.objective import Classification
from tda.parameters import Parameters
from tda.planning.costs import Cost, Key, merged, read, write
from tda.planning.gpus import PEAK_TFLOPS, Gpu
from tda.stages.context import Context, Options

IMAGES = 2  # that are counted; every operation is linear in them
CPU_GFLOPS = 94.8  # one core's matrix product: benchmarks/README.md, flops.py
CHECKED = (
    *(Experiment("cnn2", "mnist3", size) for size in (10, 20, 50)),
    *(Experiment("cnn2", "cifar10", size) for size in (10, 20, 50)),
    *(Experiment("cnn3", name, 50) for name in ("mnist3", "cifar10")),
    *(Experiment("vit_small", *own) for own in (("mnist3", 10), ("mnist3", 50), ("cifar10", 10))),
)
SHARES = (0.2, 0.4, 0.6)
FLAGS = {"influence": "--also grad_dot grad_cos"}
STAGES = {"train": "run", "loo": "retraining", "ats": "example", "influence": "run"}


@dataclass(frozen=True)
class PerImage:
    """FLOPs of one image.

    Attributes:
        training: forward and backward, and the step.
        evaluation: forward.
        gradient: forward, and backward for the loss.
        jacobian: forward, and backward for each of the outputs.
    """

    training: float
    evaluation: float
    gradient: float
    jacobian: float

    @classmethod
    def of(cls, network: nn.Module, data: Data, recipe: Recipe) -> "PerImage":
        """Counted on a few images."""
        objective, number = Classification(), len(data.y)
        theta_P, once = Parameters(network).read(network), replace(recipe, epochs=1, keep=1)
        one = torch.ones(1, number)
        members = Members(theta_P[None], data_order(0, number, 1), one, None)
        loss = value_cotangents(objective.loss, data.y)
        simple = simple_layers(network, objective, data.x)
        works = (
            lambda: list(train(network, objective, data, once, members)),
            lambda: losses(network, objective, theta_P[None], data),
            lambda: capture(network, objective, data.x, loss, simple),
            lambda: capture(network, objective, data.x, output_cotangents, simple),
        )
        return cls(*(flop(Work("", work)) / number for work in works))


def tflop(experiment: Experiment, image: PerImage) -> dict[str, float]:
    """10¹² FLOPs of a unit of each stage.

    The influence function's inner products and eigendecomposition are not counted.
    """
    recipe = experiment.recipe
    num_train = experiment.num_train
    num_test, keep = NUM_TEST[experiment.task], recipe.keep
    run = recipe.epochs * num_train * image.training
    gradients = (num_train + num_test) * image.gradient + num_train * image.jacobian
    units = {
        "train": run + keep * (num_train + num_test) * image.evaluation,
        "loo": run + keep * num_test * image.evaluation,
        "ats": keep * (image.training + num_test * image.evaluation),
        "influence": keep * gradients,
    }
    return {stage: each / 1e12 for stage, each in units.items()}


def counted(experiment: Experiment) -> PerImage:
    """Of an experiment's network: as it is, or for ViTs of its size with random weights."""
    if experiment.family == "cnn":
        context = Context(experiment, experiment.runs()[0], Options(jobs=1))
        return PerImage.of(
            context.network, context.split.train.take(slice(IMAGES)), experiment.recipe
        )
    config = {}
    if experiment.model == "vit_small":
        config = json.loads((paths.pretrained("vit_small") / "config.json").read_text())
        config = {name: config[name] for name in SIZES if name in config}
    case = Case.of(config, IMAGES, torch.device("cpu"))
    return PerImage.of(case.network, case.first(IMAGES), experiment.recipe)


SIZES = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size",
    "patch_size",
)  # fmt: skip


def amounts_of(experiments: tuple[Experiment, ...]) -> dict[Experiment, dict[str, float]]:
    """:func:`tflop` of experiments; a network is counted once."""
    images: dict[tuple[str, str], PerImage] = {}
    found = {}
    for experiment in experiments:
        image_size = experiment.task if experiment.family == "cnn" else ""
        if (experiment.model, image_size) not in images:
            images[experiment.model, image_size] = counted(experiment)
        found[experiment] = tflop(experiment, images[experiment.model, image_size])
    return found


def check(
    amounts: dict[Experiment, dict[str, float]], costs: dict[Key, Cost]
) -> Iterator[dict[str, str | float]]:
    """Seconds of one core that FLOPs at the assumed share predict, and those that were measured."""
    for experiment, own in amounts.items():
        for stage in ("loo", "ats"):
            cost = costs.get((stage, experiment.name, "", "cpu"))
            if cost is not None and cost.seconds == cost.seconds:
                predicted = own[stage] * 1e3 / (Gpu().achieved * CPU_GFLOPS)
                yield {
                    "system": experiment.name, "stage": stage, "GFLOP": own[stage] * 1e3,
                    "predicted_s": predicted, "measured_s": cost.seconds,
                    "GFLOP/s": own[stage] * 1e3 / cost.seconds,
                    "measured / predicted": cost.seconds / predicted,
                }  # fmt: skip


def hours(experiment: Experiment, amounts: dict[str, float], gpu: Gpu) -> dict:
    """GPU-hours of all runs of an experiment."""
    num_train = experiment.num_train
    units = {"train": 1, "loo": num_train + 1, "ats": num_train, "influence": 1}
    found = {
        stage: len(seeds()) * units[stage] * each / gpu.tflops / 3600
        for stage, each in amounts.items()
    }
    where = {"GPU": gpu.name, "share of peak": gpu.achieved}
    return {"experiment": experiment.name, **where, **found, "GPU-hours": sum(found.values())}


def rows_of(experiment: Experiment, amounts: dict[str, float]) -> Iterator[Cost]:
    """Rows of the table of costs.

    On a CPU without the influence function, most of whose work, the eigendecomposition, is not
    counted.
    """
    nan, where = float("nan"), f"counted, torch {torch.__version__}"
    device = "gpu" if experiment in VIT_GRID else "cpu"
    for stage, unit in STAGES.items():
        if (stage, device) != ("influence", "cpu"):
            yield Cost(
                stage, replace(experiment, randomness="init").name, FLAGS.get(stage, ""), unit,
                device, nan, amounts[stage], "", where, "python benchmarks/plan_vit.py --write",
            )  # fmt: skip


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="rows of benchmarks/costs.csv")
    parser.add_argument("--output", type=Path, metavar="PREFIX", help="also write files")
    return parser.parse_args()


def _main() -> None:
    flags = _parse()
    image = counted(VIT_GRID[0])
    per_image = pd.DataFrame([{name: each / 1e9 for name, each in vars(image).items()}])
    publish(per_image, ["GFLOP of an image through ViT-B/16 with LoRA."], None)
    amounts = {each: tflop(each, image) for each in VIT_GRID}
    gpus = [Gpu(name, share) for name in PEAK_TFLOPS for share in SHARES]
    table = pd.DataFrame([hours(each, own, gpu) for each, own in amounts.items() for gpu in gpus])
    publish(table, [], flags.output)
    on_cpu = amounts_of(CHECKED)
    note = f"predicted: {Gpu().achieved:.0%} of {CPU_GFLOPS} GFLOP/s"
    publish(pd.DataFrame(check(on_cpu, read())), [note], None)
    if flags.write:
        new = [row for each, own in {**amounts, **on_cpu}.items() for row in rows_of(each, own)]
        write(merged(read(), new))


if __name__ == "__main__":
    guarded(_main)
