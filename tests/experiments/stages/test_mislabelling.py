"""Mislabelled left-out examples: stage, table and figure, on Adult with a short protocol."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from stage_scripts import run_path

from bayestda.errors import UserError
from bayestda.experiments import final_models, paths, results
from bayestda.experiments.data.tables import load
from bayestda.experiments.final_models import FinalModels
from bayestda.experiments.networks.mlp import mlp
from bayestda.experiments.stages.context import forget
from bayestda.experiments.stages.final_systems import final_system
from bayestda.experiments.stages.mislabelling import flipped_positions, mislabelled
from bayestda.model.examples import Data
from bayestda.model.losses import Classification
from bayestda.retraining.data_changes import Change
from bayestda.retraining.gold_standard import Course, GoldStandard
from bayestda.statistics.ground_truth import area_under_curve
from bayestda.training.posterior import train_posterior

METHODS = ("grad_dot", "ekfac", "horizon")
LEFT_OUT, TESTS = 10, 6


def short_protocol():
    protocol = final_models.PROTOCOLS["adult_reduced"]
    further = {"sgd": replace(protocol.further["sgd"], epochs=2)}
    return replace(
        protocol, training=replace(protocol.training, epochs=3), further=further, num_train=60,
        num_test=20, num_left_out=LEFT_OUT, num_evaluated=TESTS,
    )  # fmt: skip


def run(script, *flags):
    return run_path(paths.REPOSITORY / script, *map(str, flags))


def stage(*flags):
    own = ("--task", "adult_reduced", "--methods", *METHODS, "--jobs", 1, *flags)
    return run("tda_fimo_scripts/mislabel.py", *own)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    monkeypatch.setitem(final_models.PROTOCOLS, "adult_reduced", short_protocol())
    yield tmp_path
    forget(final_system(FinalModels("adult_reduced")))


def test_a_fifth_of_the_left_out_labels_is_flipped_and_others_in_each_trial():
    trials = [flipped_positions(trial, 100) for trial in range(3)]
    assert {len(trial) for trial in trials} == {20}
    assert len({tuple(trial) for trial in trials}) == 3
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    train = Data(torch.zeros(6, 1), labels, np.arange(6))
    flips = [mislabelled(train, np.array([1, 4]), trial).y for trial in range(8)]
    for flipped in flips:
        assert (flipped != labels).nonzero().flatten().tolist() == [1, 4]
        assert flipped.max() <= 2 and flipped.min() >= 0
    assert {int(flipped[1]) for flipped in flips} == {0, 2}
    with pytest.raises(UserError, match="labels of a regression"):
        mislabelled(replace(train, y=labels.float()), np.array([1]), 0)


def test_areas_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    values, positive = rng.integers(0, 6, (3, 2, 12)), rng.random((3, 12)) < 0.4
    expected = [
        [roc_auc_score(p, v) for v in rows] for rows, p in zip(values, positive, strict=True)
    ]
    np.testing.assert_allclose(area_under_curve(values, positive), expected)


def test_trials_train_on_flipped_labels_and_become_a_table(root, capsys):
    assert stage("--num_trials", 0) == 2
    assert stage("--num_trials", 3) == 0
    stored = results.open_scores(paths.mislabelled("fimo_adult_reduced", "1"), "test")
    flipped = stored["flipped"].squeeze().values
    assert np.flatnonzero(flipped).tolist() == flipped_positions(1, LEFT_OUT).tolist()
    expected = expected_gold(1)
    rows = stored["score"].isel(train_seed=0).values[stored["method"].values == "gold"]
    np.testing.assert_allclose(rows[-1], expected, rtol=1e-3, atol=1e-9)
    assert run("analysis/fimo_mislabel.py", "--task", "adult_reduced") == 0
    table = pd.read_csv(root / "results" / "fimo_adult_reduced" / "mislabel.csv")
    assert set(table["method"]) == {"gold", *METHODS}
    assert (table["num_trials"] == 3).all() and (table["choice"] == "best").sum() == 4
    areas = []
    for trial in range(3):
        one = results.open_scores(paths.mislabelled("fimo_adult_reduced", str(trial)), "test")
        score = one["score"].isel(train_seed=0).values[one["method"].values == "grad_dot"][0]
        areas.append(roc_auc_score(one["flipped"].squeeze().values, -score))
    found = table.query("method == 'grad_dot'")["value"].item()
    assert found == pytest.approx(np.mean(areas), rel=1e-4)
    assert (root / "results" / "fimo_adult_reduced" / "figures" / "mislabel.png").exists()

    changed = paths.mislabelled("fimo_adult_reduced", "2")
    settings = json.loads(results.open_scores(changed, "test").attrs["settings"])
    results.write_scores(
        changed, results.open_scores(changed, "test"), {**settings, "further_lr": 1}
    )
    assert run("analysis/fimo_mislabel.py", "--task", "adult_reduced") == 2
    error = capsys.readouterr().err
    assert str(changed) in error and "do not belong together (further_lr" in error


def expected_gold(trial):
    """Mean gold scores after two epochs, by the library."""
    split, protocol = load("adult").first(60, 20), short_protocol()
    train = mislabelled(split.train, flipped_positions(trial, LEFT_OUT), trial)
    build = lambda: mlp(train.x.shape[1], 2)  # noqa: E731
    posterior = train_posterior(
        build, Classification(), (train.x, train.y), protocol.training, seeds=[trial]
    )
    network = posterior.network(trial, 0)
    recipe = protocol.further["sgd"]
    gold = GoldStandard(network, Classification(), recipe, Course.of(recipe, 60, [2]))
    change = Change([[position] for position in range(LEFT_OUT)])
    loss_RM = gold.losses(trial, train, split.test.take(slice(TESTS)), change)[0]
    return (loss_RM[1:] - loss_RM[:1]).mean(1)


def test_tasks_without_labels_or_sgd_and_missing_trials_are_one_clear_error(capsys):
    assert run("tda_fimo_scripts/mislabel.py", "--task", "energy", "--jobs", 1) == 2
    assert "labels of a regression" in capsys.readouterr().err
    assert run("tda_fimo_scripts/mislabel.py", "--task", "sst2_reduced") == 2
    assert "with SGD" in capsys.readouterr().err
    assert run("analysis/fimo_mislabel.py", "--task", "adult_reduced") == 2
    assert "tda_fimo_scripts/mislabel.py --task adult_reduced" in capsys.readouterr().err
