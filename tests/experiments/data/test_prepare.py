"""data/prepare.py: rebuilt images are the recorded ones, or nothing is written."""

import json
import subprocess
import sys

import numpy as np
import pytest
from image_folders import (
    SCRIPT,
    contents,
    error_of,
    prepare,
    whole_data,
    write_file,
    write_folder,
    write_list,
)

from bayestda.experiments import paths
from bayestda.experiments.data import prepare as preparation
from bayestda.experiments.data.subsets import load, read_images
from bayestda.experiments.grid import Experiment

PROJECT = paths.REPOSITORY / "data"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty TDA_ROOT; its data folder."""
    monkeypatch.setenv("TDA_ROOT", str(tmp_path / "root"))
    return tmp_path / "root" / "data"


@pytest.fixture
def other_project(tmp_path, monkeypatch):
    """A project without records, with small index lists; its data folder."""
    monkeypatch.delenv("TDA_ROOT", raising=False)
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path / "project")
    data = tmp_path / "project" / "data"
    for task in ("mnist3", "cifar10"):
        write_list(data / task / "train_subset_1pc.txt", [9, 2, 30])
        write_list(data / task / "train_subset_2pc.txt", [9, 31])
        write_list(data / task / "test_subset.txt", [5, 3])
    write_list(data / "mnist" / "full_mnist_analysis_train.txt", [1, 2, 3])
    write_list(data / "mnist" / "full_mnist_analysis_test.txt", [8, 4])
    return data


@pytest.mark.parametrize("task", ["mnist3", "cifar10"])
def test_rebuilding_from_the_projects_own_images_changes_nothing(root, task):
    assert prepare("--task", task, "--source", PROJECT / task) == 0
    rebuilt, own = contents(root / task), contents(PROJECT / task)
    assert rebuilt.keys() == own.keys()
    assert all(rebuilt[name] == own[name] for name in own if name.endswith(".txt"))
    for split in ("train", "test"):
        new, old = (read_images(d / task / f"{split}.parquet") for d in (root, PROJECT))
        np.testing.assert_array_equal(new.pixels, old.pixels)
        np.testing.assert_array_equal(new.index, old.index)
        assert new.exact == old.exact
    assert (root / "checksums.json").read_text() == (PROJECT / "checksums.json").read_text()


@pytest.mark.parametrize(
    ("task", "folder"),
    [("mnist3", "mnist"), ("mnist", "mnist"), ("cifar10full", "cifar10_jpeg")],
)
def test_the_whole_data_set_gives_the_recorded_images(root, task, folder):
    assert prepare("--task", task, "--source", whole_data(folder)) == 0
    assert (root / "checksums.json").read_text() == (PROJECT / "checksums.json").read_text()


def test_one_other_pixel_is_refused_and_nothing_overwritten(root, tmp_path, capsys):
    assert prepare("--task", "mnist3", "--source", PROJECT / "mnist3") == 0
    before = contents(root / "mnist3")
    for split in ("train", "test"):
        images = read_images(PROJECT / "mnist3" / f"{split}.parquet")
        pixels = images.pixels.copy()
        pixels[-1, 5, 5] ^= 1
        write_file(tmp_path / "src" / f"{split}.parquet", pixels, images.label, images.index)
    message = error_of(capsys, "--task", "mnist3", "--source", tmp_path / "src")
    assert "mnist3 train" in message
    assert "not identical" in message
    assert contents(root / "mnist3") == before


@pytest.fixture
def jpeg_cifar10(other_project, tmp_path):
    """A project whose CIFAR-10 is a JPEG copy; the folder of the original images, their arrays."""
    made = write_folder(tmp_path / "original", (32, 32, 3), column="img")
    for split, (pixels, label) in made.items():
        path = tmp_path / "jpeg" / f"{split}.parquet"
        write_file(path, pixels, label, fmt="JPEG", column="img")
    assert prepare("--task", "cifar10", "--source", tmp_path / "jpeg") == 0
    assert (other_project / "cifar10" / "train.parquet").exists()
    return tmp_path / "original", made


def test_original_images_replace_jpeg_ones_and_not_the_reverse(other_project, jpeg_cifar10, capsys):
    folder, made = jpeg_cifar10
    jpeg = load(Experiment("cnn2", "cifar10", 1))
    assert prepare("--task", "cifar10", "--source", folder) == 0
    original = load(Experiment("cnn2", "cifar10", 1))
    assert (jpeg.exact, original.exact) == (False, True)
    assert jpeg.hash != original.hash
    images = read_images(other_project / "cifar10" / "train.parquet", np.array([30, 9]))
    np.testing.assert_array_equal(images.pixels, made["train"][0][[30, 9]])
    record = json.loads((other_project / "checksums.json").read_text())["cifar10"]
    assert record["train"]["exact"]
    assert record["test"]["exact"]
    before = contents(other_project / "cifar10")
    message = error_of(capsys, "--task", "cifar10", "--source", folder.parent / "jpeg")
    assert "not identical" in message
    assert contents(other_project / "cifar10") == before


@pytest.mark.usefixtures("jpeg_cifar10")
def test_jpeg_images_stored_as_png_do_not_become_exact(other_project, tmp_path):
    for split in ("train", "test"):
        images = read_images(other_project / "cifar10" / f"{split}.parquet")
        path = tmp_path / "png" / f"{split}.parquet"
        write_file(path, images.pixels, images.label, images.index)
    assert prepare("--task", "cifar10", "--source", tmp_path / "png") == 0
    assert not load(Experiment("cnn2", "cifar10", 1)).exact


def test_original_images_in_another_order_are_refused(jpeg_cifar10, tmp_path, capsys):
    for split, (pixels, label) in jpeg_cifar10[1].items():
        write_file(tmp_path / "src" / f"{split}.parquet", pixels[::-1], label[::-1])
    assert "order" in error_of(capsys, "--task", "cifar10", "--source", tmp_path / "src")


@pytest.mark.parametrize("shards", [1, 3])
def test_images_of_a_folder_come_out_pixel_identical(other_project, tmp_path, shards):
    made = write_folder(tmp_path / "src")
    pixels, label = made["train"]
    if shards > 1:
        (tmp_path / "src" / "train.parquet").unlink()
        for shard in range(shards):
            rows = np.array_split(np.arange(len(label)), shards)[shard]
            path = tmp_path / "src" / f"train-{shard:05d}-of-{shards:05d}.parquet"
            write_file(path, pixels[rows], label[rows])
    assert prepare("--task", "mnist3", "--source", tmp_path / "src") == 0
    images = read_images(other_project / "mnist3" / "train.parquet")
    assert images.index.tolist() == [2, 9, 30, 31]
    np.testing.assert_array_equal(images.pixels, pixels[images.index])
    np.testing.assert_array_equal(images.label, label[images.index])
    images = read_images(other_project / "mnist3" / "test.parquet", np.array([5, 3]))
    np.testing.assert_array_equal(images.pixels, made["test"][0][[5, 3]])


def test_full_mnist_has_all_training_images_and_the_appendix_pairs(other_project, tmp_path):
    made = write_folder(tmp_path / "src")
    assert prepare("--task", "mnist", "--source", tmp_path / "src") == 0
    split = load(Experiment("cnn2", "mnist", 6000))
    assert split.train.index.tolist() == list(range(60))
    assert split.test.index.tolist() == [8, 4]
    assert split.test.y.tolist() == made["test"][1][[8, 4]].tolist()
    assert len(read_images(other_project / "mnist" / "test.parquet").label) == 60


def _no_folder(folder):
    folder.rename(folder.with_name("gone"))


def _no_train(folder):
    (folder / "train.parquet").unlink()


def _truncated(folder):
    (folder / "train.parquet").write_bytes((folder / "train.parquet").read_bytes()[:-9])


def _few_images(folder):
    write_file(folder / "train.parquet", np.zeros((3, 28, 28), np.uint8), [0, 1, 2])


def _no_label(folder):
    write_file(folder / "train.parquet", np.zeros((3, 28, 28), np.uint8), [0, 1, 2], column="x")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(_no_folder, "there is no folder"), (_no_train, "has no train.parquet"),
     (_truncated, "damaged or no parquet"), (_few_images, "3 images, not number"),
     (_no_label, "lacks the columns image (or img) and label: it has x, label")],
)  # fmt: skip
def test_a_faulty_source_is_refused_and_nothing_written(root, tmp_path, capsys, damage, reason):
    write_folder(tmp_path / "src", per_class=1)
    damage(tmp_path / "src")
    assert reason in error_of(capsys, "--task", "mnist3", "--source", tmp_path / "src")
    assert not root.exists()


@pytest.mark.parametrize(
    "flags",
    [[], ["--task", "cifar100"], ["--task", "mnist3", "--num_per_class", "5"],
     ["--task", "mnist3", "--new_subset", "-1"], ["--task", "mnist3", "--new_subset", "x"],
     ["--task", "mnist3", "--new_subset", "1", "--num_per_class", "0"]],
)  # fmt: skip
def test_wrong_flags_end_with_status_2(flags, capsys):
    assert prepare(*flags) == 2
    assert "usage:" in capsys.readouterr().err


def test_ctrl_c_ends_with_status_130(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "rebuild", interrupted)
    assert prepare("--task", "mnist3") == 130


def test_the_script_runs_from_a_foreign_folder(root, tmp_path):
    def status(source):
        command = [sys.executable, SCRIPT, "--task", "mnist3", "--source", source]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode

    assert status(PROJECT / "mnist3") == 0
    assert (root / "mnist3" / "train.parquet").exists()
    assert status("nowhere") == 2


@pytest.mark.parametrize("task", ["heloc", "folktables"])
def test_a_source_that_no_file_can_be_called_is_no_file(task, capsys):
    assert prepare("--task", task, "--source", 5000 * "x") == 2
    assert f"--task {task} needs --source" in capsys.readouterr().err
