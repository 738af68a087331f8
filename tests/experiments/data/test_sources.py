"""The hub and torchvision as sources, without a network; the stored files as the hub's reader."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
from image_folders import encode, write_folder

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.data import sources
from bayestda.experiments.data.images import decode, read_images
from bayestda.experiments.networks import torchvision_operators


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    """The package, with every cache of it in a temporary folder."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    package = pytest.importorskip("datasets")
    package.disable_progress_bars()
    return package


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """torchvision's cache, holding an MNIST of four images in the original format; the images."""
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    raw = tmp_path / "data" / "cache" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    for name in ("train", "t10k"):
        _write_idx(raw / f"{name}-images-idx3-ubyte", pixels)
        _write_idx(raw / f"{name}-labels-idx1-ubyte", np.array([3, 0, 2, 1], dtype=np.uint8))
    return pixels


def _write_idx(path, array):
    shape = np.array(array.shape, ">i4").tobytes()
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + shape + array.tobytes())


def _load_parquet(datasets, file, cache):
    return datasets.load_dataset(
        "parquet", data_files={"train": str(file)}, split="train", cache_dir=str(cache)
    )


def test_the_projects_files_decode_as_images_for_the_hubs_reader(datasets, tmp_path):
    file = paths.REPOSITORY / "data" / "mnist3" / "train.parquet"
    row = _load_parquet(datasets, file, tmp_path)[3]
    images = read_images(file)
    np.testing.assert_array_equal(np.asarray(row["image"]), images.pixels[3])
    assert (row["label"], row["index"]) == (images.label[3], images.index[3])


def test_the_hub_gives_the_images_of_its_data_set(datasets, tmp_path, monkeypatch):
    made = write_folder(tmp_path / "src", (32, 32, 3), column="img")
    asked = []

    def from_hub(name, split):
        asked.append((name, split))
        return local

    local = _load_parquet(datasets, tmp_path / "src" / "test.parquet", tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", from_hub)
    images = decode(sources.read("hub", "cifar10", "test"), "hub")
    assert asked == [("uoft-cs/cifar10", "test")]
    np.testing.assert_array_equal(images.pixels, made["test"][0])
    np.testing.assert_array_equal(images.label, made["test"][1])
    assert images.exact


def test_a_hub_that_cannot_be_reached_is_one_sentence(datasets, monkeypatch):
    def offline(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(UserError, match="ConnectionError: no route to host.*--source torchvision"):
        sources.read("hub", "mnist3", "train")


def test_torchvision_gives_the_images_of_its_files(cache):
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    table = sources.read("torchvision", "mnist3", "test")
    assert table["bytes"].to_pylist() == [encode(image) for image in cache]
    assert table["label"].to_pylist() == [3, 0, 2, 1]
    assert table["index"].to_pylist() == [0, 1, 2, 3]
    assert torchvision_operators.import_torchvision().transforms is not None


def test_torchvision_without_a_connection_is_one_sentence(monkeypatch):
    def offline(*_, **__):
        raise RuntimeError("Error downloading\nTried x")

    fake = SimpleNamespace(datasets=SimpleNamespace(MNIST=offline))
    monkeypatch.setattr(torchvision_operators, "import_torchvision", lambda: fake)
    with pytest.raises(UserError, match="Error downloading Tried x.*--source hub"):
        sources.read("torchvision", "mnist", "train")
