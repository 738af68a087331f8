"""Every path of the project, each once.

What comes with the project (index lists, images, ``seeds.txt``) is read from the repository. What
is generated (``models/``, ``results/``, new subsets) goes to the same place, or below the folder
that the environment variable ``TDA_ROOT`` names.
"""

import contextlib
import os
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SEEDS = REPOSITORY / "seeds.txt"


def root() -> Path:
    """Return the folder below which everything generated is written."""
    return Path(os.environ.get("TDA_ROOT") or REPOSITORY).expanduser().resolve()


def local_folder(source: str) -> Path | None:
    """Return the folder that a person names, absolute; None if there is none of that name."""
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # too long; no home folder
        folder = Path(source).expanduser()
        if source and folder.is_dir():
            return folder.resolve()
    return None


def data(task: str) -> Path:
    """Folder of a task's images and index lists: a generated one first, else the project's."""
    generated = root() / "data" / task
    return generated if generated.is_dir() else REPOSITORY / "data" / task


def images(task: str, split: str) -> Path:
    """Parquet file of one split (``train`` or ``test``): columns image, label, index."""
    return data(task) / f"{split}.parquet"


def rows(task: str, suffix: str) -> Path:
    """File of the rows of a tabular task, CSV or parquet."""
    return data(task) / f"rows.{suffix}"


def sentences(split: str) -> Path:
    """Parquet file of SST-2 (``train`` or ``validation``): columns sentence, label."""
    return data("sst2") / f"{split}.parquet"


def index_list(task: str, num_per_class: int | None) -> Path:
    """Text file of image numbers, one a line: a training subset, or (None) the test list."""
    name = "test_subset" if num_per_class is None else f"train_subset_{num_per_class}pc"
    return data(task) / f"{name}.txt"


def checkpoint(experiment, run: str, epoch: int) -> Path:
    """Parameters of one run after one epoch."""
    folder = (
        root() / "models" / experiment.model / experiment.name.removeprefix(f"{experiment.model}_")
    )
    return folder / run / f"epoch_{epoch:02d}.safetensors"


def pretrained(name: str) -> Path:
    """Folder of a pretrained model: a generated one first, else the project's."""
    generated = root() / "models" / name
    return generated if (generated / "config.json").exists() else REPOSITORY / "models" / name


def results(experiment_name: str) -> Path:
    """Folder of everything that is known about one experiment."""
    return root() / "results" / experiment_name


def predictions(experiment_name: str, run: str) -> Path:
    """Logits of one run on training and test images."""
    return results(experiment_name) / "predictions" / f"{run}.nc"


def scores(experiment_name: str, method: str, run: str) -> Path:
    """Scores of one method for one run of an experiment."""
    return results(experiment_name) / "scores" / method / f"{run}.nc"


def estimators(experiment_name: str, run: str) -> Path:
    """Scores of every estimator for one run, and losses of models trained on subsets."""
    return results(experiment_name) / "estimators" / f"{run}.nc"


def further(experiment_name: str, variant: str, run: str) -> Path:
    """Measurements after further training of one final model in one order of the data."""
    return results(experiment_name) / "further" / variant / f"{run}.nc"


def mislabelled(experiment_name: str, trial: str) -> Path:
    """Scores of left-out examples, some of them mislabelled, of one trial."""
    return results(experiment_name) / "mislabelled" / f"{trial}.nc"


def approximation(experiment_name: str, method: str, run: str) -> Path:
    """Scores of one method for a final model."""
    return results(experiment_name) / "approximations" / method / f"{run}.nc"


def part(scores_file: Path, first: int, last: int) -> Path:
    """Finished part of an unfinished score file: training examples first to last - 1."""
    return scores_file.parent / f".{scores_file.stem}.parts" / f"{first}-{last}.nc"


def parts(scores_file: Path) -> list[range]:
    """Ranges of the parts of an unfinished score file that are there, by their first item."""
    names = [file.stem for file in part(scores_file, 0, 0).parent.glob("*.nc")]
    found = [re.fullmatch(r"(\d+)-(\d+)", name) for name in names]
    ranges = [range(int(match[1]), int(match[2])) for match in found if match]
    return sorted(ranges, key=lambda items: (items.start, items.stop))


def share(scores_file: Path, first: int | str, last: int | str) -> Path:
    """Empty file that says that a job has done its share of a run: see ``--loo_ids``."""
    return scores_file.parent / f".{scores_file.stem}.{first}-{last}.share"


def pairs(experiment_name: str, method: str) -> Path:
    """Statistics over seeds of one method's scores, per train-test pair."""
    return results(experiment_name) / "pairs" / f"{method}.nc"


def table(experiment_name: str, name: str) -> Path:
    """CSV table of one experiment."""
    return results(experiment_name) / f"{name}.csv"


def figure(experiment_name: str | None, name: str) -> Path:
    """Figure of one experiment, or (None) one that compares experiments."""
    folder = root() / "results" if experiment_name is None else results(experiment_name)
    return folder / "figures" / f"{name}.png"


def distributional(name: str) -> Path:
    """Samples over runs of one experiment of ``tda_distributional_scripts/``."""
    return results(f"distributional_{name}") / "samples.nc"


def drawn(experiment_name: str | None, script: str) -> Path:
    """Empty file that says that a figure script has run, whatever its figures are called."""
    return figure(experiment_name, "x").parent / f".{script}.drawn"
