"""Bad input: one sentence on stderr that says what is wrong and how to mend it, exit status 2."""

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import xarray as xr
from safetensors import safe_open
from safetensors.torch import load_file, save
from stage_scripts import NUM_PER_CLASS, SMALL, TASK, make_subset, run, score_file

from bayestda.errors import UserError
from bayestda.experiments import paths, results
from bayestda.experiments.stages import training
from bayestda.files import checksums
from bayestda.training.loop import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TDA_ROOT", str(folder))
        make_subset()
        assert run("train_cnn", "--seed_id", 0) == 0
        assert run("influence", "--seed_id", 0, "--damping", 0.1) == 0
    return folder


@pytest.fixture(autouse=True)
def root(trained, tmp_path, monkeypatch):
    """A copy of a root with one trained run and its influence scores."""
    shutil.copytree(trained, tmp_path / "root")
    monkeypatch.setenv("TDA_ROOT", str(tmp_path / "root"))
    return tmp_path / "root"


def fails(capsys, name, *flags, small=True):
    """The one line that the script prints when it ends with status 2."""
    capsys.readouterr()
    assert run(name, *flags, small=small) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line and "\r" not in line]
    assert "Traceback" not in "\n".join(lines)
    return lines[-1].rpartition("\r")[2]


def checkpoint():
    return paths.checkpoint(SMALL, SMALL.runs()[0].name, 15)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--task", "mnist4"), "unknown task 'mnist4'"),
        (("--task", "mnist3", "--num_per_class", 7), "prepare.py"),
        (("--task", TASK, "--seed_id", 10), "--seed_id 10 does not exist"),
        (("--task", TASK, "--seed_id", -1), "--seed_id -1 does not exist"),
        (("--device", "cuda:77"), "leave out --device"),
        (("--num_per_class", "x"), "--num_per_class"),
        (("--num_per_class", 0), "--num_per_class"),
        (("--memory_gb", "-1"), "--memory_gb"),
        (("--memory_gb", "nan"), "--memory_gb"),
        (("--layers", 4), "--layers"),
        (("--randomness", "none"), "--randomness"),
        (("--unknown",), "--unknown"),
    ],
)
def test_wrong_flags(capsys, flags, message):
    assert message in fails(capsys, "train_cnn", *flags, small=False)


@pytest.mark.parametrize("damping", ["0", "-1", "nan", "inf", "x"])
def test_a_damping_is_a_positive_number(capsys, damping):
    assert "--damping" in fails(capsys, "influence", "--damping", damping)


def test_a_damping_given_twice_is_one():
    assert run("influence", "--seed_id", 0, "--damping", 0.1, 0.1) == 0  # as the file has it


@pytest.mark.parametrize("name", ["ats", "influence", "grad_dot", "grad_cos"])
def test_a_missing_stage_is_named_with_its_command(capsys, name):
    message = fails(capsys, name, "--seed_id", 1)
    assert "train_cnn.py" in message
    assert f"--task {TASK} --num_per_class {NUM_PER_CLASS}" in message


def test_results_of_other_settings_are_refused_and_named(capsys):
    message = fails(capsys, "influence", "--seed_id", 0, "--damping", 0.2)
    assert str(score_file("influence")) in message
    assert "damping: file [0.1], asked [0.2]" in message


@pytest.mark.parametrize(("randomness", "shared"), [("batch", "init"), ("init_only", "order")])
def test_runs_that_share_the_first_seed_are_refused_after_it_changed(
    capsys, monkeypatch, tmp_path, randomness, shared
):
    flags = ("--seed_id", 1, "--randomness", randomness)
    assert run("train_cnn", *flags) == 0
    first, *others = paths.SEEDS.read_text().split()
    (tmp_path / "seeds.txt").write_text("\n".join(["7", *others]) + "\n")
    monkeypatch.setattr(paths, "SEEDS", tmp_path / "seeds.txt")
    assert f"({shared}: file {first}, asked 7)" in fails(capsys, "train_cnn", *flags)
    assert f"({shared}: file {first}, asked 7)" in fails(capsys, "grad_dot", *flags)


def test_checkpoints_of_other_settings_are_refused_without_their_predictions_too(
    capsys, monkeypatch, tmp_path
):
    flags = ("--seed_id", 1, "--randomness", "batch")
    assert run("train_cnn", *flags) == 0
    experiment = replace(SMALL, randomness="batch")
    name = experiment.runs()[1].name
    paths.predictions(experiment.name, name).unlink()
    file = paths.checkpoint(experiment, name, 15)
    before, (first, *others) = file.read_bytes(), paths.SEEDS.read_text().split()
    (tmp_path / "seeds.txt").write_text("\n".join(["7", *others]) + "\n")
    monkeypatch.setattr(paths, "SEEDS", tmp_path / "seeds.txt")
    assert f"(init: file {first}, asked 7)" in fails(capsys, "train_cnn", *flags)
    assert file.read_bytes() == before


def test_predictions_of_checkpoints_that_were_made_again_are_made_again():
    file = paths.predictions(SMALL.name, SMALL.runs()[0].name)
    own = results.open_scores(file, "test").load()
    settings = json.loads(own.attrs["settings"])
    results.write_scores(file, own.assign(test_logit=own["test_logit"] + 1), settings, seconds=1.0)
    checkpoint().unlink()
    assert run("train_cnn", "--seed_id", 0) == 0
    xr.testing.assert_equal(results.open_scores(file, "test"), own)


def test_scores_of_other_checkpoints_are_refused(capsys):
    for path in checkpoint().parent.glob("*.safetensors"):
        path.unlink()
    paths.predictions(SMALL.name, SMALL.runs()[0].name).unlink()
    assert run("train_cnn", "--seed_id", 0) == 0
    assert run("influence", "--seed_id", 0, "--damping", 0.1) == 0  # the same again
    shutil.copy(checkpoint().with_name("epoch_11.safetensors"), checkpoint())
    message = fails(capsys, "influence", "--seed_id", 0, "--damping", 0.1)
    assert "posterior: file" in message


@pytest.mark.parametrize("content", [b"", b"x", b"\x80\x04K\x01.", "half"])
def test_a_damaged_score_file(capsys, content):
    file = score_file("influence")
    file.write_bytes(file.read_bytes()[:-100] if content == "half" else content)
    message = fails(capsys, "influence", "--seed_id", 0, "--damping", 0.1)
    assert f"{file} is damaged" in message
    assert "delete it and run" in message


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\x80\x04K\x01.", "half"])
def test_a_damaged_checkpoint(capsys, content):
    file = checkpoint()
    half = file.read_bytes()[: file.stat().st_size // 2]
    file.write_bytes(half if content == "half" else content)
    message = fails(capsys, "grad_dot", "--seed_id", 0)
    assert f"{file} is damaged" in message
    assert "delete it and run `python train_cnn.py" in message


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
@pytest.mark.parametrize("kind", ["scores", "checkpoint"])
@pytest.mark.parametrize("method", ["open", "stat"])
def test_what_the_machine_keeps_from_being_read_is_not_called_damaged(
    capsys, monkeypatch, number, kind, method
):
    file = score_file("influence") if kind == "scores" else checkpoint()
    plain = getattr(Path, method)

    def failing(path, *arguments, **named):
        if path == file:
            raise OSError(number, os.strerror(number))
        return plain(path, *arguments, **named)

    monkeypatch.setattr(Path, method, failing)
    message = fails(capsys, "influence", "--seed_id", 0, "--damping", 0.1)
    assert f"{file} cannot be read: {os.strerror(number)}" in message
    assert "delete" not in message


def test_a_deleted_checkpoint_is_trained_again():
    checkpoint().unlink()
    assert run("train_cnn", "--seed_id", 0) == 0
    assert checkpoint().exists()


def test_a_full_disk_leaves_nothing_half_written(capsys, monkeypatch, root):
    def full(path, _content):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(path for path in root.rglob("*") if path.is_file())
    monkeypatch.setattr(Path, "write_bytes", full)
    message = fails(capsys, "grad_dot", "--seed_id", 0)
    assert "No space left on device" in message
    assert before == sorted(path for path in root.rglob("*") if path.is_file())


def test_a_damaged_part_is_made_again():
    assert run("loo", "--seed_id", 0) == 0
    whole = score_file("loo").read_bytes()
    part = paths.part(score_file("loo"), 0, 8)
    part.parent.mkdir()
    part.write_bytes(b"half")
    score_file("loo").unlink()
    assert run("loo", "--seed_id", 0) == 0
    assert len(score_file("loo").read_bytes()) == pytest.approx(len(whole), rel=0.01)
    assert not part.parent.exists()


def test_tensor_float_32_needs_a_gpu(capsys):
    assert "--tf32 needs an NVIDIA GPU" in fails(capsys, "train_cnn", "--device", "cpu", "--tf32")


def test_a_folder_where_a_file_should_go(capsys):
    folder = score_file("grad_dot").parent
    folder.write_text("in the way")
    assert "cannot write" in fails(capsys, "grad_dot", "--seed_id", 0)


def test_a_checkpoint_is_never_unpickled(capsys, tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"w": Evil()}, checkpoint())
    fails(capsys, "grad_dot", "--seed_id", 0)
    assert not (tmp_path / "owned").exists()


def test_seeds_must_be_whole_numbers_one_a_line(capsys, monkeypatch, tmp_path):
    large = f"446\n{2**32}\n"
    for content in ("", "446\n446\n", "446\nx\n", "446\n", "446\n\n41\n", "-1\n446\n", large):
        (tmp_path / "seeds.txt").write_text(content)
        monkeypatch.setattr(paths, "SEEDS", tmp_path / "seeds.txt")
        assert "seeds.txt" in fails(capsys, "train_cnn")


def rewritten(change):
    """Change a checkpoint's tensors."""
    tensors = {name: value.clone() for name, value in load_file(checkpoint()).items()}
    with safe_open(checkpoint(), framework="pt") as file:
        metadata = file.metadata()
    checkpoint().write_bytes(save(change(tensors), metadata))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda ts: {n: t.double() for n, t in ts.items()}, "finite float32"),
        (lambda ts: {n: t * float("nan") for n, t in ts.items()}, "finite float32"),
        (lambda ts: {n: t + 1e-3 for n, t in ts.items()}, "does not match its recorded hash"),
        (lambda ts: dict(list(ts.items())[1:]), "another network"),
    ],
    ids=["wrong type", "NaN", "other numbers", "a layer less"],
)
def test_a_checkpoint_of_other_numbers(capsys, change, reason):
    rewritten(change)
    message = fails(capsys, "grad_dot", "--seed_id", 0)
    assert str(checkpoint()) in message and reason in message and "run `python train" in message


@pytest.mark.parametrize("settings", ["{", "3", "[]", "null"])
def test_damaged_settings_of_a_checkpoint(capsys, settings):
    checkpoint().write_bytes(save(load_file(checkpoint()), {"settings": settings}))
    message = fails(capsys, "grad_dot", "--seed_id", 0)
    assert str(checkpoint()) in message and "delete it" in message


def test_a_run_that_diverges_is_not_saved(capsys, monkeypatch):
    def diverging(*arguments, **flags):
        for epochs, theta_CRP in train(*arguments, **flags):
            yield epochs, theta_CRP * float("inf")

    monkeypatch.setattr(training, "train", diverging)
    assert "has diverged" in fails(capsys, "train_cnn", "--seed_id", 1)
    name = SMALL.runs()[1].name
    assert not list(paths.checkpoint(SMALL, name, 15).parent.glob("*.safetensors"))
    assert not paths.predictions(SMALL.name, name).exists()


def test_one_flipped_bit_of_a_score_file(capsys):
    file, content = score_file("influence"), bytearray(score_file("influence").read_bytes())
    for place in range(0, 8 * len(content), len(content) // 3):
        flipped = content.copy()
        flipped[place // 8] ^= 1 << place % 8
        file.write_bytes(flipped)
        assert f"{file} is damaged" in fails(capsys, "influence", "--seed_id", 0, "--damping", 0.1)


def test_a_score_file_without_its_checksum_is_refused(capsys):
    file, length = score_file("influence"), len(checksums.sealed(b""))
    file.write_bytes(file.read_bytes()[:-length])
    message = fails(capsys, "influence", "--seed_id", 0, "--damping", 0.1)
    assert f"{file} is damaged" in message and "delete it and run" in message


def stored(file, change):
    """Change what a score file holds, and write it as a stage would."""
    dataset = results.open_scores(file, "test")
    settings = json.loads(dataset.attrs["settings"])
    results.write_scores(file, change(dataset), settings)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.drop_vars("score"),
        lambda d: d.assign(score=d["score"].astype(str)),
        lambda d: d.assign(score=(d["score"] * 1e6).astype("int64")),
        lambda d: d.isel(train=0, drop=True),
    ],
    ids=["no scores", "text", "whole numbers", "a dim less"],
)
def test_scores_of_another_kind_are_named_by_analysis(change):
    shutil.copy(score_file("influence"), score_file("influence", 1))
    stored(score_file("influence"), change)
    with pytest.raises(UserError, match=r"446.nc holds .*delete it and run `python tda_cnn"):
        results.read_scores(SMALL, "influence")


def test_a_seed_that_is_missing_in_the_list_and_has_scores_is_named(monkeypatch, tmp_path):
    lines = paths.SEEDS.read_text().splitlines()
    shutil.copy(score_file("influence"), score_file("influence", 1))
    (tmp_path / "seeds.txt").write_text("\n".join(lines[1:]) + "\n")
    monkeypatch.setattr(paths, "SEEDS", tmp_path / "seeds.txt")
    with pytest.raises(UserError, match=r"446.nc is of a run that .*seeds.txt does not name"):
        results.read_scores(SMALL, "influence")
