"""data/prepare.py --new_subset: balanced, nested, the same for the same seed, never mixed."""

import json
import re

import numpy as np
import pytest
from image_folders import contents, error_of, prepare, write_file, write_folder

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.data.subsets import load, read_images, read_index_list
from bayestda.experiments.grid import Experiment

PROJECT = paths.REPOSITORY / "data"
SUBSET = ("--task", "mnist3", "--source", PROJECT / "mnist3", "--num_test_per_class", 20)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty TDA_ROOT; its data folder."""
    monkeypatch.setenv("TDA_ROOT", str(tmp_path / "root"))
    return tmp_path / "root" / "data"


def test_a_fresh_subset_is_balanced_nested_and_keeps_the_original_numbers(root):
    paper = contents(PROJECT / "mnist3")
    assert prepare(*SUBSET, "--new_subset", 7, "--num_per_class", 12, 3, 30) == 0
    original = read_images(PROJECT / "mnist3" / "train.parquet")
    label_of = dict(zip(original.index.tolist(), original.label.tolist(), strict=True))
    smaller: set = set()
    for size in (3, 12, 30):
        numbers = read_index_list(root / "mnist3s7" / f"train_subset_{size}pc.txt").tolist()
        assert np.bincount([label_of[number] for number in numbers]).tolist() == [size] * 3
        assert smaller < set(numbers)
        smaller = set(numbers)
    split = load(Experiment("cnn2", "mnist3s7", 12))
    assert np.bincount(split.test.y).tolist() == [20] * 3
    images = read_images(root / "mnist3s7" / "train.parquet")
    wanted = read_images(PROJECT / "mnist3" / "train.parquet", images.index)
    np.testing.assert_array_equal(images.pixels, wanted.pixels)
    assert contents(PROJECT / "mnist3") == paper
    assert not (root / "checksums.json").exists()


def test_same_seed_same_subset_whatever_the_sizes_or_order_of_the_source(root, tmp_path):
    assert prepare(*SUBSET, "--new_subset", 7, "--num_per_class", 5, 10) == 0
    first = contents(root / "mnist3s7")
    for file in (root / "mnist3s7").iterdir():
        file.unlink()
    for split in ("train", "test"):
        images = read_images(PROJECT / "mnist3" / f"{split}.parquet")
        shuffled = np.random.default_rng(0).permutation(len(images.label))
        arrays = (images.pixels[shuffled], images.label[shuffled], images.index[shuffled])
        write_file(tmp_path / "src" / f"{split}.parquet", *arrays)
    flags = ("--task", "mnist3", "--source", tmp_path / "src", "--num_test_per_class", 20)
    assert prepare(*flags, "--new_subset", 7, "--num_per_class", 10) == 0
    second = contents(root / "mnist3s7")
    assert second["train_subset_10pc.txt"] == first["train_subset_10pc.txt"]
    assert second["test_subset.txt"] == first["test_subset.txt"]
    assert prepare(*SUBSET, "--new_subset", 8, "--num_per_class", 10) == 0
    other = contents(root / "mnist3s8")
    assert other["train_subset_10pc.txt"] != first["train_subset_10pc.txt"]


def test_a_subset_is_finished_by_the_same_command_and_refused_to_another(root, capsys):
    flags = (*SUBSET, "--new_subset", 7, "--num_per_class")
    assert prepare(*flags, 5) == 0
    whole = contents(root / "mnist3s7")
    for name in ("train.parquet", "test_subset.txt"):
        (root / "mnist3s7" / name).unlink()  # as if killed half-way
    assert prepare(*flags, 5) == 0
    assert contents(root / "mnist3s7") == whole
    message = error_of(capsys, *flags, 6)
    assert "num_per_class: file [5], asked [6]" in message
    assert contents(root / "mnist3s7") == whole
    (root / "mnist3s7" / "subset.json").write_text("{")
    assert "subset.json is damaged" in error_of(capsys, *flags, 5)


def test_what_a_subset_lacks_is_made_again_by_the_command_that_is_named(root):
    assert prepare(*SUBSET, "--new_subset", 7, "--num_per_class", 3, 5) == 0
    whole = contents(root / "mnist3s7")
    (root / "mnist3s7" / "train.parquet").unlink()
    with pytest.raises(UserError) as missing:
        load(Experiment("cnn2", "mnist3s7", 3))
    command = re.search(r"`python data/prepare.py (.*)`", str(missing.value))[1]
    assert command.endswith("--new_subset 7 --num_per_class 3 5 --num_test_per_class 20")
    assert prepare(*command.replace("hub", str(PROJECT / "mnist3")).split()) == 0
    assert contents(root / "mnist3s7") == whole


def test_a_subset_of_jpeg_images_is_marked(root, tmp_path):
    write_folder(tmp_path / "src", (32, 32, 3), fmt="JPEG")
    flags = ("--source", tmp_path / "src", "--num_per_class", 2, "--num_test_per_class", 1)
    assert prepare("--task", "cifar10", "--new_subset", 1, *flags) == 0
    assert not load(Experiment("cnn2", "cifar10s1", 2)).exact
    assert not json.loads((root / "cifar10s1" / "subset.json").read_text())["train"]["exact"]


def test_a_class_with_too_few_images_is_named(root, capsys):
    message = error_of(capsys, *SUBSET, "--new_subset", 7, "--num_per_class", 51)
    assert "class 0 has 50 images in this source, 51 are asked for" in message
    assert not root.exists()
