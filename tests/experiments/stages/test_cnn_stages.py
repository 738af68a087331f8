"""The stage scripts, end to end on real images."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import xarray as xr
from stage_scripts import FLAGS, NUM_PER_CLASS, SMALL, STAGES, make_subset, run, score_file, script

from bayestda.experiments import checkpoints, networks, paths, results
from bayestda.experiments.data import subsets
from bayestda.model.losses import Classification
from bayestda.model.parameters import Parameters
from bayestda.training.loop import losses

N, M, CHECKPOINTS = 3 * NUM_PER_CLASS, 30, 5


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A root in which all stages ran for two seeds, from a foreign folder."""
    folder = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TDA_ROOT", str(folder))
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        make_subset()
        for seed_id in (0, 1):
            for name in ("train_cnn", *STAGES):
                assert run(name, "--seed_id", seed_id) == 0
    return folder


@pytest.fixture(autouse=True)
def _use_root(root, monkeypatch):
    monkeypatch.setenv("TDA_ROOT", str(root))


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """An empty root with the subset alone."""
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    make_subset()
    return tmp_path


def read(method, run_id=0):
    return results.open_scores(score_file(method, run_id), "test")


@pytest.mark.parametrize("method", STAGES)
def test_scores_are_labelled_arrays(method):
    dataset = read(method)
    split = subsets.load(SMALL)
    extra = {"damping"} if method == "influence" else set()
    assert set(dataset["score"].dims) == {"seed", "checkpoint", "train", "test"} | extra
    assert dataset["score"].dtype == np.float32
    assert np.isfinite(dataset["score"]).all()
    assert dataset["checkpoint"].values.tolist() == SMALL.recipe.kept_epochs
    np.testing.assert_array_equal(dataset["train"], split.train.index)
    np.testing.assert_array_equal(dataset["test"], split.test.index)
    np.testing.assert_array_equal(dataset["test_label"], split.test.y)
    np.testing.assert_array_equal(dataset["train_label"], split.train.y)
    assert dataset.attrs["data_hash"] == split.hash
    assert dataset.attrs["seconds"] > 0
    assert json.loads(dataset.attrs["settings"])["num_per_class"] == NUM_PER_CLASS


@pytest.mark.parametrize("name", ["train_cnn", *STAGES])
def test_a_second_run_does_nothing(name, root, capsys):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    assert run(name, "--seed_id", 1) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def test_nothing_unfinished_is_left_behind(root):
    assert not [path for path in root.rglob(".*") if path.name != ".drawn"]


def test_the_base_run_of_loo_is_the_posterior_bit_for_bit():
    experiment_run = SMALL.runs()[0]
    network = networks.build("cnn2", SMALL.task, experiment_run.init)
    settings = json.loads(read("grad_dot").attrs["settings"])
    settings.pop("method")
    settings.pop("posterior")
    theta_CP = checkpoints.load(SMALL, experiment_run, Parameters(network), settings)
    base_CM = losses(network, Classification(), theta_CP, subsets.load(SMALL).test)
    np.testing.assert_array_equal(read("loo")["test_loss"][0], base_CM)


def test_predictions_are_those_of_the_checkpoints():
    predictions = results.open_scores(paths.predictions(SMALL.name, SMALL.runs()[0].name), "test")
    loss_CM = Classification().loss(
        torch.from_numpy(predictions["test_logit"].values[0]).double(), subsets.load(SMALL).test.y
    )
    np.testing.assert_array_equal(read("loo")["test_loss"][0], loss_CM)


@pytest.mark.usefixtures("fresh")
def test_methods_of_one_command_equal_methods_alone(root):
    assert run("train_cnn", "--seed_id", 1) == 0
    assert run("influence", "--seed_id", 1, "--also", "grad_dot", "grad_cos") == 0
    together = {method: read(method, 1) for method in ("influence", "grad_dot", "grad_cos")}
    os.environ["TDA_ROOT"] = str(root)
    for method, dataset in together.items():
        xr.testing.assert_equal(dataset, read(method, 1))


def test_the_influence_of_strong_damping_is_grad_dot():
    score = read("influence")["score"].sel(damping=10.0)
    correlation = np.corrcoef(score.values.ravel(), read("grad_dot")["score"].values.ravel())[0, 1]
    assert correlation > 0.95


def test_variants_have_folders_of_their_own():
    assert run("ats", "--optimizer", "sgd", "--seed_id", 0) == 0
    assert run("influence", "--solver", "lissa", "--seed_id", 0) == 0
    assert run("loo", "--variant", "published", "--seed_id", 0) == 0
    step, dot = read("ats_sgd")["score"].values, read("grad_dot")["score"].values
    assert np.corrcoef(step.ravel(), dot.ravel())[0, 1] > 0.9  # a small step is first order
    lissa = read("influence_lissa")["score"].values
    assert np.corrcoef(lissa.ravel(), dot.ravel())[0, 1] > 0.999  # λ = 50, barely started
    published = read("loo_published")
    np.testing.assert_array_equal(published["test_loss"], read("loo")["test_loss"])
    removal, total = read("loo")["score"], published["score"]
    assert float((total**2).sum()) > float((removal**2).sum())


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("randomness", ["batch", "init_only", "crossed"])
def test_kinds_of_randomness_hold_fixed_what_they_say(randomness):
    assert run("train_cnn", "--randomness", randomness) == 0
    experiment = type(SMALL)("cnn2", SMALL.task, NUM_PER_CLASS, randomness)
    predictions = results.read_predictions(experiment)
    inits, orders = set(predictions["init"].values), set(predictions["order"].values)
    sizes = {"batch": (1, 10), "init_only": (10, 1), "crossed": (4, 4)}
    assert (len(inits), len(orders)) == sizes[randomness]
    logits = predictions["test_logit"].values.reshape(predictions.sizes["seed"], -1)
    assert len(np.unique(logits, axis=0)) == len(logits)


def test_stacked_members_train_like_single_ones(fresh, root, monkeypatch):
    assert run("loo", "--seed_id", 0, "--chunk", 5) == 0
    stacked = read("loo")["score"]
    monkeypatch.setenv("TDA_ROOT", str(root))
    single = read("loo")["score"]
    assert fresh != root
    error = float(((stacked - single) ** 2).sum() / (single**2).sum()) ** 0.5
    assert error < 0.02  # both train in float32, and rounding grows in training


def command(name, *flags):
    return [sys.executable, str(script(name)), *FLAGS[:-2], *map(str, flags)]


def test_workers_and_a_kill_half_way_change_no_bit(fresh, root):
    """Two workers, kill -9 when some parts are there, the same command again: the same arrays."""
    loo = command("loo", "--jobs", 2)
    process = subprocess.Popen(loo, stderr=subprocess.DEVNULL, start_new_session=True)
    parts = score_file("loo").parent
    wait_until(lambda: [*parts.glob(".*.parts/*.nc"), *parts.glob("*.nc")], process)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(list(parts.glob("*.nc"))) < len(SMALL.runs())
    subprocess.run(loo, check=True, stderr=subprocess.DEVNULL)
    assert not list(fresh.rglob("*.tmp"))
    assert not list(parts.glob(".*.parts"))
    resumed = [read("loo", run_id) for run_id in (0, 1)]
    os.environ["TDA_ROOT"] = str(root)
    for run_id, dataset in enumerate(resumed):
        xr.testing.assert_identical(dataset["score"].drop_attrs(), read("loo", run_id)["score"])


@pytest.mark.usefixtures("fresh")
def test_an_interruption_is_one_line_and_status_130():
    process = subprocess.Popen(
        command("loo", "--jobs", 2), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    parts = score_file("loo").parent
    wait_until(lambda: list(parts.glob(".*.parts/*.nc")), process)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: run the same command again" in errors
    assert "Traceback" not in errors


def wait_until(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the stage ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.01)
