"""Images and index lists: those that come with the project, reading, and every kind of damage."""

import dataclasses
import io
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from image_folders import random_images, whole_data, write_file, write_list
from PIL import Image

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.data.images import fingerprint, prepare_command
from bayestda.experiments.data.subsets import load, read_images, read_index_list
from bayestda.experiments.grid import Experiment

DATA = paths.REPOSITORY / "data"


@pytest.fixture
def task(tmp_path, monkeypatch):
    """A small mnist3 below TDA_ROOT: 12 training and 6 test images, numbered from 100 on."""
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    folder = tmp_path / "data" / "mnist3"
    for split, per_class in (("train", 4), ("test", 2)):
        pixels, label = random_images((28, 28), 3, per_class, seed=per_class)
        write_file(folder / f"{split}.parquet", pixels, label, 100 + np.arange(len(label)))
    write_list(folder / "train_subset_2pc.txt", [111, 103, 100, 107])
    write_list(folder / "test_subset.txt", range(100, 106))
    return folder


SMALL = Experiment("cnn2", "mnist3", 2)


@pytest.mark.parametrize("name", ["mnist3", "cifar10"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_projects_images_are_those_of_the_checksums(name, split):
    images = read_images(DATA / name / f"{split}.parquet")
    record = json.loads((DATA / "checksums.json").read_text())[name][split]
    assert fingerprint(images) == record["sha256"]
    assert fingerprint(images, pixels=False) == record["labels_sha256"]
    assert (len(images.label), images.exact) == (record["images"], record["exact"])


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    ("name", "source", "column"), [("mnist3", "mnist", "image"), ("cifar10", "cifar10_jpeg", "img")]
)
def test_images_are_those_of_their_number_in_the_whole_data_set(name, source, column, split):
    whole = pd.read_parquet(whole_data(f"{source}/{split}.parquet"))
    images = read_images(DATA / name / f"{split}.parquet")
    np.testing.assert_array_equal(images.label, whole["label"].to_numpy()[images.index])
    for pixels, number in zip(images.pixels[::7], images.index[::7], strict=True):
        original = Image.open(io.BytesIO(whole[column][number]["bytes"]))
        np.testing.assert_array_equal(pixels, np.asarray(original))


@pytest.mark.parametrize(
    ("name", "size", "counts"),
    [
        ("mnist3", 10, [10] * 3),
        ("mnist3", 20, [20] * 3),
        ("mnist3", 50, [50] * 3),
        ("cifar10", 10, [11, 9, 14, 10, 12, 5, 6, 6, 14, 13]),  # drawn by the test split's labels
        ("cifar10", 20, [20] * 10),
        ("cifar10", 30, [36, 26, 27, 35, 34, 19, 27, 33, 42, 21]),
        ("cifar10", 40, [45, 34, 42, 46, 39, 37, 42, 29, 50, 36]),
        ("cifar10", 50, [50] * 10),
        ("cifar10", 60, [60] * 10),
    ],
)
def test_the_papers_lists_have_the_known_class_counts(name, size, counts):
    split = load(Experiment("cnn2", name, size))
    assert torch.bincount(split.train.y).tolist() == counts
    test_size = {"mnist3": 300, "cifar10": 50}[name]
    assert torch.bincount(split.test.y).tolist() == [test_size] * len(counts)
    assert split.exact or name == "cifar10"


@pytest.mark.parametrize(("name", "shift", "scale"), [("mnist3", 0, 1), ("cifar10", 0.5, 0.5)])
def test_x_is_the_normalised_image_of_each_number_in_the_order_of_the_list(name, shift, scale):
    experiment = Experiment("cnn2", name, 20)
    split = load(experiment)
    listed = [int(line) for line in paths.index_list(name, 20).read_text().split()]
    assert split.train.index.tolist() == listed
    images = read_images(paths.images(name, "train"))
    row_of = {number: row for row, number in enumerate(images.index.tolist())}
    for row in range(0, len(listed), 9):
        pixels = np.atleast_3d(images.pixels[row_of[listed[row]]]).astype(np.float64)
        expected = (pixels.transpose(2, 0, 1) / 255 - shift) / scale
        np.testing.assert_allclose(split.train.x[row], expected, atol=2e-7)
        assert split.train.y[row] == images.label[row_of[listed[row]]]
    assert (split.train.x.dtype, split.train.y.dtype) == (torch.float32, torch.int64)
    assert split.train.x.is_contiguous()


def test_hash_changes_with_one_pixel_one_label_one_number_and_the_order(task):
    images = read_images(task / "train.parquet")
    changed_pixel = images.pixels.copy()
    changed_pixel[3, 14, 14] ^= 1
    variants = [
        images,
        dataclasses.replace(images, pixels=changed_pixel),
        dataclasses.replace(images, label=images.label[::-1]),
        dataclasses.replace(images, index=images.index + 1),
        read_images(task / "train.parquet", images.index[::-1]),
    ]
    assert len({fingerprint(variant) for variant in variants}) == len(variants)
    before = load(SMALL).hash
    assert load(SMALL).hash == before
    write_file(task / "train.parquet", changed_pixel, images.label, images.index)
    assert load(SMALL).hash != before


def test_reading_images_does_not_import_torch():
    code = "import sys, bayestda.experiments.data.subsets; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [("", "empty"), ("3\nx\n", "'x'"), ("3\n4.5\n", "4.5"), ("3\n4\n3\n", "image 3 twice"),
     ("-1\n", "negative"), ("9" * 30, "no list")],
)  # fmt: skip
def test_a_wrong_index_list_is_refused(task, content, reason):
    (task / "train_subset_2pc.txt").write_text(content)
    with pytest.raises(UserError, match=reason):
        read_index_list(task / "train_subset_2pc.txt")
    with pytest.raises(UserError, match="train_subset_2pc.txt"):
        load(SMALL)


def test_an_unknown_size_names_the_sizes_there_are_and_the_command(task):
    (task.parent / "mnist3s1").mkdir()
    with pytest.raises(UserError) as error:
        load(Experiment("cnn2", "mnist3", 30))
    assert "only of 2:" in str(error.value)
    assert "--new_subset 2 --num_per_class 30" in str(error.value)


def test_missing_images_name_the_command(task):
    (task / "test.parquet").unlink()
    with pytest.raises(UserError, match=r"data/prepare.py --task mnist3 --source hub`"):
        load(SMALL)
    with pytest.raises(UserError, match="--task cifar10 --source hub --new_subset 5`"):
        load(Experiment("cnn2", "cifar10s5", 10))
    assert prepare_command("elsewhere").endswith("--help")


@pytest.mark.parametrize("kept", [0, 3, 400, -20])
def test_a_truncated_image_file_is_refused(task, kept):
    file = task / "train.parquet"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match="damaged or no parquet file"):
        load(SMALL)


def test_images_that_do_not_fit_list_or_task_are_refused(task):
    write_list(task / "train_subset_3pc.txt", [100, 7, 8])
    with pytest.raises(UserError, match="12 images, not number 7 and 1 more"):
        load(Experiment("cnn2", "mnist3", 3))
    pixels, _ = random_images((28, 28), 3, 4, seed=0)
    write_file(task / "train.parquet", pixels, [0, 1, 2, 7] * 3, 100 + np.arange(12))
    with pytest.raises(UserError, match="the label 7"):
        load(SMALL)
    write_file(task / "train.parquet", pixels[:, :14], [0] * 12, 100 + np.arange(12))
    with pytest.raises(UserError, match=r"shape \(14, 28, 1\)"):
        load(SMALL)
    write_file(task / "train.parquet", pixels, [0] * 12, 100 + np.arange(12), fmt="JPEG")
    with pytest.raises(UserError, match="mixes original and JPEG"):
        load(SMALL)
