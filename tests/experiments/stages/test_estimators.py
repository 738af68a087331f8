"""Every estimator of a run as a stage, and the table of what predicts retraining."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from score_files import NAME, NUM_TEST, NUM_TRAIN, call, coordinates, read, write_experiment
from stage_scripts import SMALL, make_subset, run, score_file
from torch._subclasses.fake_tensor import FakeTensorMode

from bayestda.experiments import paths, results
from bayestda.experiments.grid import Experiment
from bayestda.experiments.stages import estimators
from bayestda.experiments.stages.estimators import APPROXIMATE, DAMPINGS, random_halves
from bayestda.retraining.ablations import ABLATIONS

SIGNAL = np.random.default_rng(0).normal(size=(NUM_TRAIN, NUM_TEST))
SUBSETS = 40


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """One run of the stage and of those it is compared with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TDA_ROOT", str(tmp_path_factory.mktemp("root")))
        make_subset()
        for name, *flags in (
            ("train_cnn",), ("loo",), ("influence", "--also", "grad_dot"),
            ("estimators", "--subsets", 3, "--ablations"),
        ):  # fmt: skip
            assert run(name, "--seed_id", 0, *flags) == 0
        names = ("loo", "influence", "grad_dot")
        stages = {name: results.open_scores(score_file(name), "test") for name in names}
        yield (
            stages,
            results.open_scores(paths.estimators(SMALL.name, SMALL.runs()[0].name), "test"),
        )


def test_scores_of_gradients_come_from_a_gpu_to_where_those_of_replays_are(monkeypatch):
    def of_sample(*_arguments):
        for name in estimators.AVERAGED:
            yield name, torch.zeros(3, 2, device="cuda:0")

    monkeypatch.setattr(estimators, "_of_sample", of_sample)
    monkeypatch.setattr(estimators, "SampleGradients", lambda *_arguments, **_named: None)
    with FakeTensorMode():
        context = SimpleNamespace(
            posterior=torch.zeros(2, 5), network=None, objective=None, memory_bytes=1,
            split=SimpleNamespace(train=None, test=None),
        )  # fmt: skip
        found = estimators.of_gradients(context, [None, None])
    assert {scores.device.type for scores in found.values()} == {"cpu"}


def test_every_estimator_is_there_and_finite(ran):
    _, found = ran
    names = set(found["estimator"].values)
    expected = {"grad_dot", "grad_cos", "trak", "replay", "replay exact", *APPROXIMATE}
    expected |= {f"replay without {idea}" for idea in (*ABLATIONS, "size of removal")}
    assert expected | {f"influence {d:g}" for d in DAMPINGS} <= names
    assert np.isfinite(found["score"]).all()


def test_estimators_are_those_of_the_stages_in_the_sign_of_helpful(ran):
    stages, found = ran
    scores = found["score"].transpose("estimator", "seed", "train", "test")
    influence = stages["influence"]["score"].sel(damping=0.1).mean("checkpoint")
    for name, stage in (
        ("influence 0.1", influence),
        ("grad_dot", stages["grad_dot"]["score"].mean("checkpoint")),
    ):
        signed = np.corrcoef(scores.sel(estimator=name).values.ravel(), stage.values.ravel())
        assert signed[0, 1] > 0.9999


def test_the_linearised_replay_predicts_the_runs_own_retraining_best(ran):
    stages, found = ran
    loo = stages["loo"]["score"].mean("checkpoint").values.ravel()
    by_name = {
        str(name): np.corrcoef(found["score"].sel(estimator=name).values.ravel(), loo)[0, 1]
        for name in found["estimator"].values
    }
    assert max(by_name, key=by_name.get) == "replay"
    assert by_name["replay"] > 0.95


def test_random_halves_are_halves_and_differ():
    included_AN = random_halves(50, 31)
    assert set(included_AN.sum(1)) == {15}
    assert len(np.unique(included_AN, axis=0)) == 50
    assert 0.3 < included_AN.mean(0).min() < included_AN.mean(0).max() < 0.7


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """LOO, and estimators of which one knows the truth and one does not."""
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    write_experiment(NAME, {"loo": SIGNAL})
    experiment = Experiment.parse(NAME)
    rng = np.random.default_rng(2)
    included_AN = rng.random((SUBSETS, NUM_TRAIN)) < 0.5
    blind = rng.normal(size=SIGNAL.shape)
    for each in experiment.runs():
        scores = np.stack([SIGNAL, blind, SIGNAL + blind, blind])[:, None]
        scores = scores + 0.1 * rng.normal(size=scores.shape)
        loss = 0.1 * rng.normal(size=(1, SUBSETS, NUM_TEST)) - included_AN @ SIGNAL
        names = ["grad_dot", "grad_cos", "influence 0.1", "flow 10"]
        dataset = xr.Dataset(
            {
                "horizon": (("seed", "checkpoint"), np.full((1, 5), 4.0)),
                "score": (("estimator", "seed", "train", "test"), scores),
                "loss": (("seed", "subset", "test"), loss),
                "included": (("subset", "train"), included_AN),
            },
            {**coordinates(each), "estimator": names},
        )
        path = paths.estimators(NAME, each.name)
        results.write_scores(path, dataset, experiment.settings())
    return experiment


def test_the_table_says_which_estimator_predicts_retraining(planted, monkeypatch):
    call(monkeypatch, "ground_truth", "--experiment", planted.name)
    table = read("ground_truth").set_index(["method", "metric", "scope"])
    for metric, scope in (("pearson", "all_pairs"), ("lds", "per_test")):
        assert table.loc[("grad_dot", metric, scope), "value"] > 0.9
        assert abs(table.loc[("grad_cos", metric, scope), "value"]) < 0.5
    assert ("grad_dot", "pearson", "within_labels") in table.index
    assert (table["matched_damping"] == 0.25).all()
    points = table.xs(("pearson", "all_pairs"), level=("metric", "scope"))["damping"]
    np.testing.assert_allclose(points[["influence 0.1", "flow 10"]], 0.1)
    assert points[["grad_dot", "grad_cos"]].isna().all()
    judged = read("ground_truth_held_out").set_index("method")
    assert set(judged.index) == {"grad_dot", "grad_cos", "influence", "flow"}
    assert judged.loc["grad_dot", "value"] > 0.9 > abs(judged.loc["grad_cos", "highest"]) + 0.3
    assert judged.loc["grad_dot", "value"] == pytest.approx(judged["ceiling"].iloc[0], abs=0.02)
    np.testing.assert_allclose(judged.loc["flow", "most_chosen_damping"], 0.1)
    differences = read("ground_truth_differences")
    assert set(differences["method_a"]) | set(differences["method_b"]) == {"grad_dot", "grad_cos"}
    assert paths.figure(NAME, "ground_truth").stat().st_size > 10_000


def test_a_missing_run_is_named_with_its_command(planted, monkeypatch, capsys):
    file = paths.estimators(NAME, planted.runs()[3].name)
    file.unlink()
    with pytest.raises(SystemExit):
        call(monkeypatch, "ground_truth", "--experiment", NAME)
    error = capsys.readouterr().err
    assert f"{file} is missing" in error
    assert "python tda_cnn_scripts/estimators.py --task mnist3 --num_per_class 10" in error
