"""What a command of the order of work does, in units that cost alike.

Commands are read, and not rules: a job's command says by itself which runs and which left-out
examples it is for, however the work is split into jobs.
"""

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
ONCE = {"": (0,)}  # items of a script that is one piece of work


@dataclass(frozen=True)
class Work:
    """What a command does.

    Attributes:
        stage, system, flags, unit: as in :class:`tda.planning.costs.Cost`; the system of a script
            of ``analysis/`` is a task and a size, as pairs are pairs whatever the model.
        items: of every run that is not finished what is to be done, by the run's name.
        of: name of what the runs are of, with all that varies between them.
        jobs: processes that may share the work on a CPU.
    """

    stage: str
    system: str
    flags: str
    unit: str
    items: Mapping[str, Sequence[int]]
    of: str = ""
    jobs: int = 1

    @property
    def title(self) -> str:
        """Stage, system and flags; tables and figures of a system go by one name."""
        is_analysis = self.unit == "script" and self.stage != "samples"
        names = ("tables, figures", self.system) if is_analysis else (self.stage, self.system)
        return " ".join(filter(None, (*names, "" if is_analysis else self.flags)))

    @property
    def units(self) -> int:
        """All items."""
        return sum(map(len, self.items.values()))

    @property
    def processes(self) -> int:
        """That start on a CPU and load their libraries: the script's own, and its workers."""
        workers = min(self.jobs, len(self.pieces))
        return 1 + (workers if workers > 1 else 0)

    @property
    def pieces(self) -> tuple[int, ...]:
        """Units in each part that one core does, one after the other."""
        return tuple(
            len(items[start : start + PART])
            for items in self.items.values()
            for start in range(0, len(items), PART)
        )

    def names(self) -> set[tuple]:
        """Every item of every run, by a name that no other one has."""
        return {
            (self.stage, self.of, self.flags, run, item)
            for run, items in self.items.items()
            for item in items
        }

    def without(self, done: set[tuple]) -> "Work":
        """What is left when other jobs have done some of the items."""
        left = {
            run: [i for i in items if (self.stage, self.of, self.flags, run, i) not in done]
            for run, items in self.items.items()
        }
        return replace(self, items={run: items for run, items in left.items() if items})


def work_of(command: str, outputs: Iterable[Path] | None = None) -> Work | None:
    """What is still to be done of a command; None: it is no script of the project.

    Args:
        command: as a shell gets it, with or without the Python before the script.
        outputs: files that it makes; a run whose files are all there is not counted, nor are
            retrainings whose parts are there. None: everything counts.

    Raises:
        UserError: its flags make no sense.
    """
    words = shlex.split(command.partition(" && ")[0])  # after it the files are touched
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
        name = f"distributional_{stage}"
        return Work("samples", name, shlex.join(own), "script", ONCE, name)
    return _analysis(stage, flags, shlex.join(own))


def _parser() -> ArgumentParser:
    """Flags that say for which runs and examples; all others are of the cost."""
    parser = ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--task", default="mnist3")
    parser.add_argument("--layers", default="2")
    parser.add_argument("--model", default=VIT)
    parser.add_argument("--randomness", default="init")
    parser.add_argument("--num_per_class", type=int, default=10)
    for name in ("seed_id", "jobs", "num_seeds"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--train_seed", type=int, nargs="+")
    for name in ("device", "memory_gb", "chunk"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--loo_ids")
    parser.add_argument("--experiment", nargs="+", default=[])
    return parser


def _image(stage: str, model: str, flags: Namespace, own: str, outputs: list[Path] | None) -> Work:
    base = task(flags.task)
    experiment = Experiment(model, flags.task, flags.num_per_class, flags.randomness)
    items = {"loo": range(experiment.num_train + 1), "ats": range(experiment.num_train)}.get(
        stage, range(1)
    )
    if flags.loo_ids:
        items = _asked(flags.loo_ids)
    runs = _chosen(experiment.runs(), flags.seed_id)
    todo = {
        run.name: _left(paths.scores(experiment.name, stage, run.name), items, outputs)
        for run in runs
        if _is_missing(run.name, outputs)
    }
    system = Experiment(model, base.name, experiment.num_per_class).name
    unit = UNITS.get(stage, "run")
    return Work(stage, system, own, unit, todo, experiment.name, flags.jobs or 1)


def _final(stage: str, flags: Namespace, own: str, outputs: list[Path] | None) -> Work:
    source = "" if flags.model == VIT else flags.model
    models = FinalModels(flags.task, source, "--lora" in shlex.split(own))
    train_seeds = flags.train_seed
    runs, items = models.finals(train_seeds), range(1)
    if stage == "further_train":
        orders = range(flags.num_seeds or models.protocol.num_seeds)
        runs = models.runs(train_seeds, orders if flags.seed_id is None else [flags.seed_id])
        items = range(1 + models.protocol.num_left_out)
    if flags.loo_ids:
        items = _asked(flags.loo_ids)
    missing = [run.name for run in runs if _is_missing(run.name, outputs)]
    todo = {run: list(items) for run in missing}
    own = shlex.join(word for word in shlex.split(own) if word != "--lora")
    return Work(stage, models.name, own, UNITS[stage], todo, models.name, flags.jobs or 1)


def _analysis(stage: str, flags: Namespace, own: str) -> Work:
    if stage.startswith("fimo_"):
        name = FinalModels(flags.task).name
        return Work(stage, name, own, "script", ONCE, name)
    asked = [Experiment.parse(name) for name in flags.experiment]
    sizes = " ".join(f"{task(each.task).name}_{each.num_per_class}pc" for each in asked)
    return Work(stage, sizes, own, "script", ONCE, " ".join(flags.experiment))


def _chosen(runs: list[Run], seed_id: int | None) -> list[Run]:
    if seed_id is not None and not 0 <= seed_id < len(runs):
        raise UserError(f"--seed_id {seed_id} does not exist: runs are 0 to {len(runs) - 1}")
    return runs if seed_id is None else [runs[seed_id]]


def _asked(loo_ids: str) -> range:
    """Items of ``--loo_ids FIRST:LAST``: 0 is the base run."""
    first, last = map(int, loo_ids.split(":"))
    return range(first + 1 if first else 0, last + 1)


def _is_missing(run: str, outputs: list[Path] | None) -> bool:
    """Whether a run's files are not all there; a run without files of its own counts as missing."""
    if outputs is None:
        return True
    own = [file for file in outputs if run in (file.stem, file.parent.name)]
    return not own or not all(file.exists() for file in own)


def _left(scores: Path, items: range, outputs: list[Path] | None) -> list[int]:
    """Items without those whose parts are there."""
    there = set() if outputs is None else {item for part in paths.parts(scores) for item in part}
    return [item for item in items if item not in there]
