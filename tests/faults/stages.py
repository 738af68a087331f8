"""The stages of every system, small; roots in which all of them ran; and what a root must hold."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import xarray as xr
from commands import Command, run
from hindrances import planted_scores, short_further_training, short_recipes, tiny_vit
from safetensors import safe_open

from bayestda.experiments import paths

SOURCE = paths.REPOSITORY / "data" / "mnist3"
SUBSET = ("--num_per_class", 3)
PREPARE = Command(
    "prepare", "data/prepare.py",
    ("--task", "mnist3", "--source", SOURCE, "--new_subset", 7, *SUBSET, "--num_test_per_class", 2),
)  # fmt: skip
OWN = ("--task", "mnist3s7", *SUBSET, "--seed_id", 0, "--jobs", 1)
METHODS = {
    "loo": (), "ats": (), "influence": (), "grad_dot": (), "grad_cos": (),
    "estimators": ("--subsets", 4),
}  # fmt: skip
CNN = (
    PREPARE,
    Command("train", "train_cnn.py", OWN),
    *(Command(name, f"tda_cnn_scripts/{name}.py", OWN + own) for name, own in METHODS.items()),
)
FOLDER = Path(mkdtemp(prefix="tda-faults-"))  # of this process's references
TINY = FOLDER / "tiny"  # the same for all roots, as results name it
VIT_FLAGS = (*OWN, "--model", TINY)
VIT = (
    PREPARE,
    Command("save", "", before=(tiny_vit(TINY),)),
    Command("finetune", "finetune_vit_lora.py", VIT_FLAGS),
    *(Command(name, f"tda_vit_scripts/{name}.py", VIT_FLAGS + own)
      for name, own in METHODS.items()),
)  # fmt: skip
CONCRETE = ("--task", "concrete", "--train_seed", 0, "--jobs", 1)
FIMO = tuple(
    Command(name, f"tda_fimo_scripts/{name}.py", CONCRETE + own, (short_further_training,))
    for name, own in {
        "train_final": (), "further_train": ("--seed_id", 0, "--chunk", 4),
        "approximate": ("--methods", "grad_dot", "influence", "datainf"),
    }.items()
)  # fmt: skip
DISTRIBUTIONAL = tuple(
    Command(name, f"tda_distributional_scripts/{name}.py", ("--runs", 4, *own), (short_recipes,))
    for name, own in {
        "regression_1d": (), "concrete": (), "mnist3_groups": (),
        "mnist3_spread": ("--retrained", 4), "cifar10_pruning": (),
    }.items()
)  # fmt: skip
ANALYSIS = (
    Command("scores", "", before=(planted_scores,)),
    *(Command(name, f"analysis/{name}.py", ("--experiment", "cnn2_mnist3_10pc", *own))
      for name, own in {
          "p_values": (), "variance": (), "reliability": (), "correlations": (), "accuracy": (),
          "figures": ("--figure", "reliability", "variance"), "gallery": (), "summary": (),
      }.items()),
)  # fmt: skip
SYSTEMS = {
    "cnn": CNN, "vit": VIT, "fimo": FIMO, "distributional": DISTRIBUTIONAL, "analysis": ANALYSIS,
}  # fmt: skip
SETUP = ("save", "scores")  # not stages of the project
ALL = [(system, own.name) for system, stages in SYSTEMS.items() for own in stages
       if own.name not in SETUP and (system, own.name) != ("vit", "prepare")]  # fmt: skip
SOME = [("cnn", "prepare"), ("cnn", "train"), ("cnn", "loo"), ("vit", "finetune"),
        ("vit", "influence"), ("fimo", "further_train"), ("fimo", "approximate"),
        ("distributional", "regression_1d"), ("analysis", "p_values"),
        ("analysis", "summary")]  # fmt: skip


def each(light: list[tuple[str, str]], whole: list[tuple[str, str]] = ALL) -> Any:
    """A test of some stages in the normal suite, and of others in ``make faults``."""
    parameters = [
        pytest.param(*stage, id="-".join(stage), marks=() if stage in light else pytest.mark.heavy)
        for stage in whole
    ]
    return pytest.mark.parametrize(("system", "name"), parameters)


@dataclass
class Reference:
    """A root in which the stages of a system ran undisturbed, up to the last that was asked for.

    Attributes:
        system: a name of ``SYSTEMS``.
        made: by stage, the files that it made, relative to the root.
        seconds: by stage, how long it took.
    """

    system: str
    made: dict[str, set[Path]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """The folder."""
        return FOLDER / self.system / "root"

    def run_until(self, name: str) -> None:
        """Run the stages up to one that have not run yet."""
        self.root.mkdir(parents=True, exist_ok=True)
        while name not in self.made:
            stage = SYSTEMS[self.system][len(self.made)]
            there = visible(self.root)
            ended = run(stage, self.root, FOLDER / "log")
            assert ended.status == 0, ended.err
            self.made[stage.name] = visible(self.root) - there
            self.seconds[stage.name] = ended.seconds

    def before(self, name: str, folder: Path) -> Path:
        """A copy as it was before a stage: with what the stages before it made, and no more."""
        folder.mkdir(parents=True, exist_ok=True)
        stages = list(self.made)
        for earlier in stages[: stages.index(name)]:
            for file in self.made[earlier]:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.root / file, folder / file)
        return folder

    def assert_whole(self, folder: Path) -> None:
        """Every file of a root that has its final name is that of the undisturbed run."""
        for file in visible(folder):
            assert same(folder / file, self.root / file), f"{file} differs"

    def assert_finished(self, folder: Path, name: str) -> None:
        """The stage's files are there, whole, and nothing is left over."""
        assert self.made[name] <= visible(folder)
        self.assert_whole(folder)
        assert not leftovers(folder)


_references = {system: Reference(system) for system in SYSTEMS}


def reference(system: str, name: str) -> Reference:
    """The undisturbed root of a system in which a stage has run."""
    _references[system].run_until(name)
    return _references[system]


def command(system: str, name: str) -> Command:
    """A stage of a system."""
    return next(own for own in SYSTEMS[system] if own.name == name)


def visible(root: Path) -> set[Path]:
    """Files with their final names, relative to the root."""
    files = {path.relative_to(root) for path in root.rglob("*") if path.is_file()}
    return {file for file in files if not any(part.startswith(".") for part in file.parts)}


def leftovers(root: Path) -> list[Path]:
    """Temporary files, and folders of parts."""
    return [*root.rglob(".*.tmp"), *root.rglob(".*.parts")]


def parameters(path: Path) -> tuple[dict, dict[str, bytes]]:
    """Metadata of a checkpoint but the code's commit, and the bytes of its tensors."""
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
        return {k: v for k, v in file.metadata().items() if k != "commit"}, tensors


def same(path: Path, expected: Path) -> bool:
    """Whether two files are equal: scores bit for bit; not the seconds, and the code's commit."""
    if not expected.exists():
        return False
    if path.suffix == ".safetensors":  # which writes its metadata in any order
        return parameters(path) == parameters(expected)
    if path.suffix != ".nc":
        return path.read_bytes() == expected.read_bytes()
    both = [xr.load_dataset(file, engine="h5netcdf") for file in (path, expected)]
    for dataset in both:
        for name in ("seconds", "commit"):
            dataset.attrs.pop(name, None)
    return both[0].identical(both[1])
