"""The stage scripts of the ViT, end to end on real images."""

import json
import os
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
import xarray as xr
from stage_scripts import FLAGS, NUM_PER_CLASS, STAGES, TASK, make_subset, run, score_file, script
from tiny_vit import save

from bayestda.experiments import paths, results
from bayestda.experiments.data import subsets
from bayestda.experiments.grid import Experiment, vit_name
from bayestda.experiments.networks.pretrained import fingerprint, random_crops
from bayestda.experiments.stages.context import Context
from bayestda.experiments.stages.options import Options
from bayestda.experiments.stages.systems import VitLora
from bayestda.training.loop import losses

N, M, CHECKPOINTS = 3 * NUM_PER_CLASS, 30, 5
SEEDS = {"vit_small": (0,), "tiny": (0, 1)}  # runs of each model
CROPS = ("--augment", "random_resized_crop")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Folder of a random pretrained model."""
    return str(save(tmp_path_factory.mktemp("pretrained") / "tiny"))


@pytest.fixture(scope="module")
def root(tmp_path_factory, tiny):
    """A root in which all stages ran, from a foreign folder."""
    folder = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TDA_ROOT", str(folder))
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        make_subset()
        for source in ("vit_small", tiny):
            for name in ("finetune_vit_lora", *STAGES):
                for seed_id in SEEDS[vit_name(source)]:
                    assert run_vit(source, name, "--seed_id", seed_id) == 0
    return folder


@pytest.fixture(autouse=True)
def _use_root(root, monkeypatch):
    monkeypatch.setenv("TDA_ROOT", str(root))


@pytest.fixture(params=["vit_small", "tiny"])
def source(request, tiny):
    """What ``--model`` is given."""
    return tiny if request.param == "tiny" else request.param


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """An empty root with the subset alone."""
    monkeypatch.setenv("TDA_ROOT", str(tmp_path / "fresh"))
    make_subset()
    return tmp_path / "fresh"


def run_vit(source, name, *flags):
    return run(name, "--model", source, *flags, family="vit")


def small(source):
    """The small experiment of a model."""
    return Experiment(vit_name(source), TASK, NUM_PER_CLASS)


def read(source, method, run_id=0):
    return results.open_scores(score_file(method, run_id, small(source)), "test")


def predictions(source, run_id=0):
    experiment = small(source)
    return results.open_scores(
        paths.predictions(experiment.name, experiment.runs()[run_id].name), "test"
    )


def fails(capsys, source, name, *flags):
    """The one line that the script prints when it ends with status 2."""
    capsys.readouterr()
    assert run_vit(source, name, *flags) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line and "\r" not in line]
    assert "Traceback" not in "\n".join(lines)
    return lines[-1]


@pytest.mark.parametrize("method", STAGES)
def test_scores_are_labelled_arrays(method, source):
    dataset, split = read(source, method), subsets.load(small(source))
    extra = {"damping"} if method == "influence" else set()
    assert set(dataset["score"].dims) == {"seed", "checkpoint", "train", "test"} | extra
    assert dataset["score"].sizes["train"] == N
    assert dataset["score"].sizes["test"] == M
    assert dataset["score"].dtype == np.float32
    assert np.isfinite(dataset["score"]).all()
    assert (dataset["score"] != 0).any()
    assert dataset["checkpoint"].values.tolist() == [11, 12, 13, 14, 15]
    np.testing.assert_array_equal(dataset["train"], split.train.index)
    np.testing.assert_array_equal(dataset["test"], split.test.index)
    np.testing.assert_array_equal(dataset["test_label"], split.test.y)
    np.testing.assert_array_equal(dataset["train_label"], split.train.y)
    assert dataset.attrs["data_hash"] == split.hash


@pytest.mark.parametrize("method", STAGES)
def test_scores_carry_the_settings_of_the_vit(method, source):
    settings = json.loads(read(source, method).attrs["settings"])
    assert settings["model"] == small(source).model
    assert settings["lora"] == {"r": 16, "alpha": 16, "dropout": 0.1}
    assert settings["linear_decay"] is True
    assert settings["pretrained"] == fingerprint(source)
    assert settings["augment"] == "none"


@pytest.mark.parametrize("name", ["finetune_vit_lora", *STAGES])
def test_a_second_run_does_nothing(name, source, root, capsys):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    assert run_vit(source, name, "--seed_id", 0) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def test_nothing_unfinished_is_left_behind(root):
    assert not list(root.rglob(".*"))


def test_the_base_run_of_loo_is_the_posterior_bit_for_bit(source):
    experiment = small(source)
    context = Context(VitLora(experiment, source=source), experiment.runs()[0], Options())
    assert len(context.posterior) == CHECKPOINTS
    base_CM = losses(context.network, context.objective, context.posterior, context.split.test)
    np.testing.assert_array_equal(read(source, "loo")["test_loss"][0], base_CM)


def test_runs_differ_and_are_read_together(tiny):
    logits = results.read_predictions(small(tiny))["test_logit"]
    assert logits.dims == ("seed", "checkpoint", "test", "output")
    assert not np.array_equal(logits[0], logits[1])
    assert "crop" not in predictions(tiny)


def test_a_small_additional_step_is_grad_dot_to_first_order(source):
    assert run_vit(source, "ats", "--optimizer", "sgd", "--seed_id", 0) == 0
    step, dot = (read(source, method)["score"].values.ravel() for method in ("ats_sgd", "grad_dot"))
    assert np.corrcoef(step, dot)[0, 1] > 0.9


def test_published_leave_one_out_starts_from_the_checkpoints(tiny):
    assert run_vit(tiny, "loo", "--variant", "published", "--seed_id", 0) == 0
    published, loo = read(tiny, "loo_published"), read(tiny, "loo")
    np.testing.assert_array_equal(published["test_loss"], loo["test_loss"])
    assert not np.array_equal(published["score"], loo["score"])


@pytest.mark.usefixtures("fresh")
def test_loo_in_two_jobs_gives_the_file_of_one(root, tiny, capsys, monkeypatch):
    assert run_vit(tiny, "loo", "--seed_id", 0, "--loo_ids", "0:6") == 0
    assert "6 retrainings are left to other jobs" in capsys.readouterr().out
    file = score_file("loo", 0, small(tiny))
    assert not file.exists()
    assert run_vit(tiny, "loo", "--seed_id", 0, "--loo_ids", "6:12") == 0
    assert "left to other jobs" not in capsys.readouterr().out
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    in_two = read(tiny, "loo")
    monkeypatch.setenv("TDA_ROOT", str(root))
    in_one = read(tiny, "loo")
    in_two.attrs["seconds"] = in_one.attrs["seconds"]
    xr.testing.assert_identical(in_two, in_one)


@pytest.mark.usefixtures("fresh")
def test_jobs_of_loo_may_come_in_any_order(root, tiny, monkeypatch):
    for part in ("8:12", "0:7", "7:8"):
        assert run_vit(tiny, "loo", "--seed_id", 1, "--loo_ids", part) == 0
    in_parts = read(tiny, "loo", 1)
    monkeypatch.setenv("TDA_ROOT", str(root))
    xr.testing.assert_equal(in_parts, read(tiny, "loo", 1))


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("part", ["0:13", "5:5", "6:2", "12:13"])
def test_wrong_parts_of_loo_are_refused(part, tiny, capsys):
    message = fails(capsys, tiny, "loo", "--seed_id", 0, "--loo_ids", part)
    assert message == (
        f"error: --loo_ids {part} must be FIRST:LAST with FIRST < LAST, between 0 and 12, the "
        "number of examples that are left out in turn"
    )


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("part", ["x:4", "3", "0:", ":4", "-1:4", "0:1.5", "0:4:2", "0-4", ""])
def test_parts_of_loo_are_two_whole_numbers(part, tiny, capsys):
    message = fails(capsys, tiny, "loo", f"--loo_ids={part}")
    assert f"--loo_ids: must be FIRST:LAST, two whole numbers, and not {part!r}" in message


@pytest.mark.usefixtures("fresh")
def test_random_crops_are_recorded_and_belong_to_the_run(root, tiny, monkeypatch):
    for seed_id in (0, 1):
        assert run_vit(tiny, "finetune_vit_lora", "--seed_id", seed_id, *CROPS) == 0
    cropped = results.read_predictions(small(tiny))
    assert cropped["crop"].dims == ("seed", "train", "box")
    for crops, experiment_run in zip(cropped["crop"], small(tiny).runs()[:2], strict=True):
        np.testing.assert_array_equal(crops, random_crops(N, (28, 28), experiment_run.order))
    assert not np.array_equal(cropped["crop"][0], cropped["crop"][1])
    monkeypatch.setenv("TDA_ROOT", str(root))
    whole = results.read_predictions(small(tiny))
    assert not np.allclose(cropped["train_logit"], whole["train_logit"], atol=1e-3)


@pytest.mark.parametrize("randomness", ["batch", "init_only"])
def test_random_crops_vary_with_the_order_and_not_with_the_initialisation(randomness, tiny):
    experiment = Experiment("tiny", TASK, NUM_PER_CLASS, randomness)
    system = VitLora(experiment, source=tiny, augment=CROPS[1])
    first, second = (Context(system, each, Options()).split for each in experiment.runs()[:2])
    assert np.array_equal(first.train.crops, second.train.crops) == (randomness == "init_only")
    assert first.train.x.equal(second.train.x) == (randomness == "init_only")
    assert first.test.x.equal(second.test.x)


@pytest.mark.usefixtures("fresh")
def test_random_crops_are_the_same_in_a_second_run(tiny, tmp_path, monkeypatch):
    assert run_vit(tiny, "finetune_vit_lora", "--seed_id", 0, *CROPS) == 0
    assert run_vit(tiny, "grad_dot", "--seed_id", 0, *CROPS) == 0
    first = predictions(tiny), read(tiny, "grad_dot")
    monkeypatch.setenv("TDA_ROOT", str(tmp_path / "second"))
    make_subset()
    assert run_vit(tiny, "finetune_vit_lora", "--seed_id", 0, *CROPS) == 0
    assert run_vit(tiny, "grad_dot", "--seed_id", 0, *CROPS) == 0
    for dataset, again in zip(first, (predictions(tiny), read(tiny, "grad_dot")), strict=True):
        xr.testing.assert_equal(dataset, again)


def test_the_base_run_of_loo_meets_the_crops_of_the_posterior(fresh, tiny):
    for name in ("finetune_vit_lora", "loo"):
        assert run_vit(tiny, name, "--seed_id", 0, *CROPS) == 0
    experiment = small(tiny)
    system = VitLora(experiment, source=tiny, augment=CROPS[1])
    context = Context(system, experiment.runs()[0], Options())
    base_CM = losses(context.network, context.objective, context.posterior, context.split.test)
    np.testing.assert_array_equal(read(tiny, "loo")["test_loss"][0], base_CM)
    assert fresh.is_dir()


@pytest.mark.parametrize("name", ["finetune_vit_lora", "grad_dot", "loo"])
def test_results_with_and_without_crops_are_never_mixed(name, tiny, capsys):
    message = fails(capsys, tiny, name, "--seed_id", 0, *CROPS)
    assert "augment: file 'none', asked 'random_resized_crop'" in message
    assert f"{TASK}_{NUM_PER_CLASS}pc" in message


@pytest.mark.parametrize("name", ["finetune_vit_lora", "influence", "loo"])
def test_another_pretrained_model_of_the_same_name_is_refused(name, tiny, tmp_path, capsys):
    other = str(save(tmp_path / "tiny", seed=5))
    message = fails(capsys, other, name, "--seed_id", 0)
    assert f"pretrained: file {fingerprint(tiny)!r}, asked {fingerprint(other)!r}" in message


@pytest.mark.parametrize("name", ["ats", "influence", "grad_dot", "grad_cos"])
def test_a_missing_stage_is_named_with_its_command(name, tiny, capsys):
    message = fails(capsys, tiny, name, "--seed_id", 2)
    assert "is missing: train it first with `python finetune_vit_lora.py --task" in message
    assert f"--task {TASK} --num_per_class {NUM_PER_CLASS} --model {tiny} " in message


def test_a_suggested_command_has_the_flags_that_results_depend_on(tiny, capsys):
    message = fails(capsys, tiny, "ats", "--seed_id", 3, *CROPS)
    assert f"--model {tiny} --augment random_resized_crop --randomness init`" in message


@pytest.mark.usefixtures("root")
def test_a_command_for_a_local_folder_names_its_path(tiny):
    assert f"--model {tiny} " in str(results.Command(small(tiny), "loo"))
    assert f"--model {tiny} " in str(results.Command(small(tiny), "predictions"))


def test_results_say_by_which_packages_they_were_made(tiny):
    attributes = read(tiny, "loo").attrs
    for name in ("torch", "torchvision", "transformers", "peft"):
        assert attributes[f"version_{name}"] == version(name)


@pytest.mark.parametrize("source", ["./no_such_folder", "/no/such", "a/b/c", "~nobody/model"])
def test_a_mistyped_folder_is_called_missing(source, capsys):
    message = fails(capsys, source, "finetune_vit_lora")
    assert f"--model {source!r} is no folder here" in message


def test_a_model_that_is_not_there_is_one_sentence(capsys, tmp_path):
    message = fails(capsys, str(tmp_path), "finetune_vit_lora")
    assert "cannot be loaded" in message
    assert "--model vit_small needs no download" in message


@pytest.mark.parametrize("name", ["cnn2", "_hidden", "with space"])
def test_a_folder_whose_name_cannot_be_a_models_is_refused(name, tmp_path, capsys):
    (tmp_path / name).mkdir()
    assert "rename the folder" in fails(capsys, str(tmp_path / name), "finetune_vit_lora")


def test_worker_processes_change_no_bit(fresh, root, tiny, monkeypatch):
    flags = [*FLAGS[:-2], "--jobs", "2", "--model", tiny, "--seed_id", "0"]
    command = [sys.executable, "-W", "error", str(script("loo", "vit")), *flags]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env=os.environ)
    assert fresh != root
    in_workers = read(tiny, "loo")
    monkeypatch.setenv("TDA_ROOT", str(root))
    xr.testing.assert_equal(in_workers, read(tiny, "loo"))
