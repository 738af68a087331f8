"""Data folders: rebuild the paper's subsets from a source, and draw fresh ones."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from bayestda.errors import UserError
from bayestda.experiments import paths, results, tasks
from bayestda.experiments.data import sources
from bayestda.experiments.data.images import decode, fingerprint, read_index_list, take
from bayestda.files import atomic

_CHECKSUMS = Path("data") / "checksums.json"


@dataclass(frozen=True, eq=False)
class Part:
    """One split, ready to be written: its encoded images and the record that identifies them."""

    table: pa.Table
    record: dict


def rebuild(task: str, source: str) -> Path:
    """Write the images of the paper's index lists (or all of a data set) into the task's folder.

    Pixels must be the recorded ones, except that original images may replace JPEG ones.

    Args:
        task: Name of a task.
        source: ``hub``, ``torchvision``, or a folder.

    Returns:
        The folder.

    Raises:
        UserError: The source has other images than those recorded; nothing is written then.
    """
    lists = _paper_lists(task)
    parts = {split: _paper_part(task, source, split, lists) for split in sources.SPLITS}
    recorded = _recorded()
    record = {
        split: _accepted(f"{task} {split}", part.record, recorded.get(task, {}).get(split))
        for split, part in parts.items()
    }
    entry = tasks.TASKS[task]
    if entry.whole:
        (size,) = entry.num_per_class
        lists[f"train_subset_{size}pc"] = parts["train"].table["index"].to_numpy()
        lists["test_subset"] = lists.get(entry.test_list, parts["test"].table["index"].to_numpy())
    folder = paths.root() / "data" / task
    _write(folder, lists, parts, record)
    _write_json(paths.root() / _CHECKSUMS, {**recorded, task: record})
    return folder


def new_subset(
    task: str, source: str, seed: int, sizes: list[int] | None, test_size: int | None
) -> Path:
    """Draw a fresh balanced, nested subset and write it as task ``<task>s<seed>``.

    Args:
        task: Name of a task.
        source: ``hub``, ``torchvision``, or a folder; its train and test split are drawn from.
        seed: Seed of the draw.
        sizes: Training subset sizes per class; None: the paper's.
        test_size: Test images per class; None: as many as in the paper.

    Returns:
        The folder.

    Raises:
        UserError: Too few images of a class; the folder holds a subset of other settings.
    """
    entry = tasks.TASKS[task]
    if entry.drawn_as:
        raise UserError(
            f"subsets of these images are drawn from task {entry.drawn_as}: "
            f"replace --task {task} by --task {entry.drawn_as}"
        )
    sizes = sorted(set(sizes or entry.num_per_class))
    test_size = test_size or len(_paper_test_list(task)) // len(entry.classes)
    train_sizes = {f"train_subset_{size}pc": size for size in sizes}
    train, train_lists = _drawn(task, source, "train", train_sizes, [seed, 0])
    test, test_lists = _drawn(task, source, "test", {"test_subset": test_size}, [seed, 1])
    parts = {"train": train, "test": test}
    folder = paths.root() / "data" / f"{task}s{seed}"
    record = {split: part.record for split, part in parts.items()}
    _claim(
        folder, {"seed": seed, "num_per_class": sizes, "num_test_per_class": test_size, **record}
    )
    _write(folder, train_lists | test_lists, parts, record)
    return folder


def _drawn(
    task: str, source: str, split: str, sizes: dict[str, int], seed: list[int]
) -> tuple[Part, dict[str, np.ndarray]]:
    """Draw index lists of the given names and sizes per class, and take their images."""
    table = sources.read(source, task, split)
    label, index = table["label"].to_numpy(), table["index"].to_numpy()
    classes = tasks.task(task).classes
    lists = {name: draw(label, index, classes, size, seed) for name, size in sizes.items()}
    return _part(table, np.unique(np.concatenate(list(lists.values()))), source), lists


def _part(table: pa.Table, numbers: np.ndarray, source: str) -> Part:
    where = f"--source {source} (take a complete data set, for example hub)"
    chosen = take(table, numbers, where)
    images = decode(chosen, where)
    record = {
        "images": len(images.label),
        "exact": images.exact,
        "labels_sha256": fingerprint(images, pixels=False),
        "sha256": fingerprint(images),
    }
    return Part(chosen, record)


def _paper_part(task: str, source: str, split: str, lists: dict[str, np.ndarray]) -> Part:
    table = sources.read(source, task, split)
    listed = [numbers for name, numbers in lists.items() if name.startswith(f"{split}_subset")]
    everything = table["index"].to_numpy()
    return _part(table, np.unique(np.concatenate(listed)) if listed else everything, source)


def _paper_lists(task: str) -> dict[str, np.ndarray]:
    """Read the index lists that come with the project, by file name without suffix."""
    files = sorted((paths.REPOSITORY / "data" / task).glob(tasks.TASKS[task].lists))
    return {file.stem: read_index_list(file) for file in files}


def _paper_test_list(task: str) -> np.ndarray:
    return read_index_list(paths.REPOSITORY / "data" / task / f"{tasks.TASKS[task].test_list}.txt")


def _accepted(name: str, found: dict, recorded: dict | None) -> dict:
    """Return the record to keep; identical pixels keep theirs, whatever format they now come in."""
    if recorded is None:
        return found
    if found["sha256"] == recorded["sha256"]:
        return recorded
    if found["labels_sha256"] != recorded["labels_sha256"]:
        reason = "other labels or numbers than recorded: another data set, or in another order"
    elif recorded["exact"] or not found["exact"]:
        reason = "pixels that are not identical to those recorded"
    else:
        return found
    raise UserError(
        f"the source has {reason}, for {name} (in data/checksums.json); "
        "nothing was written: try --source hub or --source torchvision"
    )


def _recorded() -> dict:
    """Return the records of all tasks, below TDA_ROOT or else those of the project."""
    records: dict = {}
    for file in (paths.REPOSITORY / _CHECKSUMS, paths.root() / _CHECKSUMS):
        records |= _read_json(file) if file.exists() else {}
    return records


def _claim(folder: Path, settings: dict) -> None:
    """Write what the folder is for, or refuse it if it is for something else."""
    file = folder / "subset.json"
    if file.exists():
        results.check_settings(folder, _read_json(file), settings)
    _write_json(file, settings)


def _write(folder: Path, lists: dict, parts: dict[str, Part], record: dict) -> None:
    for name, numbers in lists.items():
        _write_text(folder / f"{name}.txt", "".join(f"{number}\n" for number in numbers))
    for split, part in parts.items():
        sources.write(folder / f"{split}.parquet", part.table, record[split]["exact"])


def _write_json(path: Path, content: dict) -> None:
    _write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def _write_text(path: Path, text: str) -> None:
    atomic.write_whole(path, lambda temporary: temporary.write_text(text))


def _read_json(path: Path) -> dict:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error}): restore it with `git checkout {path}` or delete it"
        ) from error


def draw(
    label: np.ndarray, index: np.ndarray, classes: tuple[int, ...], size: int, seed: list[int]
) -> np.ndarray:
    """Draw ``size`` images of each class without replacement.

    A class is shuffled whole and cut after ``size``: so a smaller size gives a subset of a larger
    one, and neither the order of the images nor other sizes change what is drawn.

    Args:
        label: Labels [N].
        index: Original numbers [N].
        classes: The classes to draw from.
        size: Number of images of each class.
        seed: Entropy of the generator.

    Returns:
        Original numbers [len(classes) * size], class by class.

    Raises:
        UserError: A class has fewer than ``size`` images.
    """
    generator = np.random.default_rng(seed)
    return np.concatenate(
        [_first(generator.permutation(np.sort(index[label == c])), size, c) for c in classes]
    )


def _first(shuffled: np.ndarray, size: int, label: int) -> np.ndarray:
    if len(shuffled) < size:
        raise UserError(
            f"class {label} has {len(shuffled)} images in this source, {size} are asked for: "
            "ask for fewer by --num_per_class or --num_test_per_class, or name a larger --source"
        )
    return shuffled[:size]
