"""Pretraining of vit_small, on a few random images."""

import hashlib
import runpy
import sys

import numpy as np
import pytest
import torch
from image_folders import write_folder, write_list
from safetensors.torch import load_file

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.networks.pretrained import transformers

SCRIPT = paths.REPOSITORY / "models" / "pretrain_vit_small.py"
OUTPUT = ("models", "vit_small")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Random images in place of MNIST and CIFAR-10."""
    folder = tmp_path_factory.mktemp("images")
    write_folder(folder / "mnist", (28, 28), per_class=15)
    write_folder(folder / "cifar10", (32, 32, 3), per_class=15)
    return folder


@pytest.fixture
def script(tmp_path, monkeypatch, folders):
    """The script's names, with flags for two epochs on the random images."""
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    sources = [word for task in ("mnist", "cifar10") for word in (f"--{task}", str(folders / task))]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *sources, "--epochs", "2"])
    return runpy.run_path(str(SCRIPT))


def weights(root):
    return load_file(root.joinpath(*OUTPUT, "model.safetensors"))


def test_a_run_that_was_stopped_ends_in_the_same_weights(script, tmp_path, monkeypatch):
    names = script["main"].__globals__
    whole_epoch, done = script["one_epoch"], []

    def stop_in_the_second(*arguments):
        if done:
            raise KeyboardInterrupt
        done.append(True)
        return whole_epoch(*arguments)

    monkeypatch.setitem(names, "one_epoch", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        script["main"]()
    assert not tmp_path.joinpath(*OUTPUT, "config.json").exists()
    monkeypatch.setitem(names, "one_epoch", whole_epoch)
    script["main"]()
    resumed = weights(tmp_path)
    monkeypatch.setenv("TDA_ROOT", str(tmp_path / "undisturbed"))
    script["main"]()
    undisturbed = weights(tmp_path / "undisturbed")
    assert all(resumed[name].equal(undisturbed[name]) for name in undisturbed)
    assert not list(tmp_path.rglob(".pretraining*"))


@pytest.mark.parametrize("change", [{"lr": 0.1}, {"batch_size": 7}, {"mnist_hash": "another"}])
def test_a_stopped_run_goes_on_with_its_own_settings_and_data_alone(script, tmp_path, change):
    classifier = torch.nn.Linear(2, 2)
    settings = {"seed": 0, "epochs": 2, **script["RECIPE"], "mnist_hash": "one"}
    file = tmp_path / ".pretraining.safetensors"
    script["Progress"](classifier, settings, file).save()
    script["Progress"](classifier, settings, file)
    with pytest.raises(UserError, match=f"other settings .{next(iter(change))}"):
        script["Progress"](classifier, {**settings, **change}, file)


def test_the_model_can_be_loaded_and_its_card_names_its_hash(script, tmp_path):
    script["main"]()
    folder = tmp_path.joinpath(*OUTPUT)
    model = transformers().ViTForImageClassification.from_pretrained(folder)
    assert sum(p.numel() for p in model.parameters()) < 2_000_000
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert digest in (folder / "README.md").read_text()


def test_the_committed_card_names_the_hash_of_the_committed_weights():
    folder = paths.REPOSITORY.joinpath(*OUTPUT)
    content = (folder / "model.safetensors").read_bytes()
    assert hashlib.sha256(content).hexdigest() in (folder / "README.md").read_text()
    assert len(content) < 8e6


def test_no_image_of_an_index_list_is_used(script, tmp_path, folders, monkeypatch):
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path)
    left_out = np.array([3, 50, 149])
    write_list(tmp_path / "data" / "mnist3" / "train_subset_10pc.txt", left_out)
    processor = transformers().ViTImageProcessor(size={"height": 32, "width": 32})
    everything = script["decoded"]("mnist", str(folders / "mnist"), "train", processor)
    used = script["unused_images"]("mnist", str(folders / "mnist"), processor)
    kept = np.delete(np.arange(150), left_out)
    assert used.pixels.equal(everything.pixels[kept])
    assert used.label.equal(everything.label[kept])


def test_pixels_are_normalised_as_by_the_processor(script):
    pixels = torch.arange(256, dtype=torch.uint8).expand(1, 3, 4, 256)[..., :32].repeat(1, 1, 8, 1)
    processor = transformers().ViTImageProcessor(
        size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    expected = processor(pixels, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(script["normalised"](pixels), expected)
