"""What a command of the order of work does, in units that cost alike.

Commands are read, and not rules: a job's command says by itself which runs and which left-out
examples it is for, however the work is split into jobs.
"""

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tda import paths
from tda.errors import UserError
from tda.experiments import VIT, Experiment, Run, task, vit_name
from tda.final_model import FinalModels

PART = 8  # items that a core is at, at a time: of tda.stages.retraining, where a test compares it
UNITS = {
    "train": "run", "loo": "retraining", "ats": "example", "influence": "run", "grad_dot": "run",
    "grad_cos": "run", "estimators": "run", "train_final": "run", "further_train": "training",
    "approximate": "run",
}  # fmt: skip
FOLDERS = {  # of scripts: kind of system
    "tda_cnn_scripts": "image", "tda_vit_scripts": "image", "tda_fimo_scripts": "final",
    "tda_distributional_scripts": "distributional", "analysis": "analysis",
}  # fmt: skip
TRAINING = {"train_cnn.py", "finetune_vit_lora.py"}


@dataclass(frozen=True)
class Work:
    """What a command does.

    Attributes:
        stage, system, flags, unit: as in :class:`tda.planning.costs.Cost`.
        pieces: units in each part that one core does, one after the other.
        runs: names of the runs that are not finished.
        processes: that are started, each of which loads its libraries.
    """

    stage: str
    system: str
    flags: str
    unit: str
    pieces: tuple[int, ...]
    runs: tuple[str, ...] = ()
    processes: int = 1

    @property
    def units(self) -> int:
        """All of them."""
        return sum(self.pieces)


def work_of(command: str, outputs: Iterable[Path] | None = None) -> Work | None:
    """What is still to be done of a command; None: it is no script of the project.

    Args:
        command: as a shell gets it, with or without the Python before the script.
        outputs: files that it makes; a run whose files are all there is not counted, nor are
            retrainings whose parts are there. None: everything counts.

    Raises:
        UserError: its flags make no sense.
    """
    words = shlex.split(command)
    at = next((place for place, word in enumerate(words) if word.endswith(".py")), None)
    if at is None:
        return None
    script, arguments = Path(words[at]), words[at + 1 :]
    kind = "image" if script.name in TRAINING else FOLDERS.get(script.parent.name)
    if kind is None:
        return None
    flags, own = _parser().parse_known_args(arguments)
    stage = "train" if script.name in TRAINING else script.stem
    files = None if outputs is None else list(outputs)
    if kind == "image":
        is_cnn = script.name == "train_cnn.py" or script.parent.name == "tda_cnn_scripts"
        model = f"cnn{flags.layers}" if is_cnn else vit_name(flags.model)
        return _image(stage, model, flags, shlex.join(own), files)
    if kind == "final":
        return _final(stage, flags, shlex.join(own), files)
    if kind == "distributional":
        return Work("samples", f"distributional_{stage}", shlex.join(own), "script", (1,))
    return _analysis(stage, flags, shlex.join(own))


def _parser() -> ArgumentParser:
    """Flags that say for which runs and examples; all others are of the cost."""
    parser = ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--task", default="mnist3")
    parser.add_argument("--layers", default="2")
    parser.add_argument("--model", default=VIT)
    parser.add_argument("--randomness", default="init")
    parser.add_argument("--num_per_class", type=int, default=10)
    for name in ("seed_id", "jobs", "train_seed", "num_seeds"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("device", "memory_gb", "chunk"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--loo_ids", nargs="+")
    parser.add_argument("--experiment", nargs="+", default=[])
    return parser


def _image(stage: str, model: str, flags: Namespace, own: str, outputs: list[Path] | None) -> Work:
    base = task(flags.task)
    experiment = Experiment(model, flags.task, flags.num_per_class, flags.randomness)
    num_train = experiment.num_per_class * len(base.classes)
    items = {"loo": range(num_train + 1), "ats": range(num_train)}.get(stage, range(1))
    if flags.loo_ids:
        items = _asked(flags.loo_ids)
    runs = _chosen(experiment.runs(), flags.seed_id)
    missing = [run.name for run in runs if _is_missing(run.name, outputs)]
    todo = [_left(experiment, stage, run, items, outputs) for run in missing]
    pieces = tuple(size for left in todo for size in _pieces(left))
    system = Experiment(model, base.name, experiment.num_per_class).name
    return Work(
        stage, system, own, UNITS.get(stage, "run"), pieces, tuple(missing), _processes(flags)
    )


def _final(stage: str, flags: Namespace, own: str, outputs: list[Path] | None) -> Work:
    source = "" if flags.model == VIT else flags.model
    models = FinalModels(flags.task, source, "--lora" in shlex.split(own))
    train_seeds = None if flags.train_seed is None else [flags.train_seed]
    runs = models.finals(train_seeds)
    if stage == "further_train":
        orders = range(flags.num_seeds or models.protocol.num_seeds)
        runs = models.runs(train_seeds, orders if flags.seed_id is None else [flags.seed_id])
    each = 1 + models.protocol.num_left_out if stage == "further_train" else 1
    missing = [run.name for run in runs if _is_missing(run.name, outputs)]
    pieces = tuple(each for _ in missing)
    own = shlex.join(word for word in shlex.split(own) if word != "--lora")
    return Work(stage, models.name, own, UNITS[stage], pieces, tuple(missing), _processes(flags))


def _analysis(stage: str, flags: Namespace, own: str) -> Work:
    if stage.startswith("fimo_"):
        return Work(stage, FinalModels(flags.task).name, own, "script", (1,))
    asked = [Experiment.parse(name) for name in flags.experiment]
    names = [Experiment(each.model, each.task, each.num_per_class).name for each in asked]
    return Work(stage, " ".join(names), own, "script", (1,))


def _chosen(runs: list[Run], seed_id: int | None) -> list[Run]:
    if seed_id is not None and not 0 <= seed_id < len(runs):
        raise UserError(f"--seed_id {seed_id} does not exist: runs are 0 to {len(runs) - 1}")
    return runs if seed_id is None else [runs[seed_id]]


def _asked(loo_ids: list[str]) -> range:
    """Items of ``--loo_ids FIRST LAST`` (or ``FIRST:LAST``): 0 is the base run."""
    first, last = (int(number) for word in loo_ids for number in word.split(":"))
    return range(first + 1 if first else 0, last + 1)


def _is_missing(run: str, outputs: list[Path] | None) -> bool:
    """Whether a run's files are not all there; a run without files of its own counts as missing."""
    if outputs is None:
        return True
    own = [file for file in outputs if run in (file.stem, file.parent.name)]
    return not own or not all(file.exists() for file in own)


def _left(
    experiment: Experiment, stage: str, run: str, items: range, outputs: list[Path] | None
) -> list[int]:
    """Items without those whose parts are there."""
    if outputs is None or stage not in ("loo", "ats"):
        return list(items)
    parts = paths.parts(paths.scores(experiment.name, stage, run))
    there = {item for part in parts for item in part}
    return [item for item in items if item not in there]


def _pieces(items: list[int]) -> list[int]:
    return [len(items[start : start + PART]) for start in range(0, len(items), PART)]


def _processes(flags: Namespace) -> int:
    """The script's own, and one for each worker."""
    jobs = flags.jobs or 1
    return 1 if jobs == 1 else 1 + jobs
