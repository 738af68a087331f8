"""Tables of the analysis scripts say what planted scores hold."""

import numpy as np
import pytest
import xarray as xr
from score_files import (
    METHODS,
    NAME,
    NUM_TEST,
    SIGNAL,
    call,
    read,
    write_crossed,
    write_experiment,
    write_predictions,
)

from bayestda import statistics
from bayestda.experiments import analysis, paths, results
from bayestda.experiments.grid import Experiment

pytestmark = pytest.mark.usefixtures("root")
TABLES = ("p_values", "variance", "reliability", "correlations", "accuracy")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The main experiment with five methods; a variant has three of the ten seeds."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TDA_ROOT", str(folder))
        write_experiment(NAME, METHODS, loo_published=3)
        write_predictions(NAME, [1, 2, 3, 2])
    return folder


@pytest.fixture
def full(written, root, monkeypatch):
    """The project root that has the main experiment."""
    assert not root.exists()
    monkeypatch.setenv("TDA_ROOT", str(written))
    return written


@pytest.mark.parametrize("script", TABLES)
def test_a_script_prints_what_it_wrote_and_writes_the_same_again(full, monkeypatch, capsys, script):
    call(monkeypatch, script, "--experiment", NAME)
    table = full / "results" / NAME / f"{script}.csv"
    assert capsys.readouterr().out.splitlines()[0] == str(table)
    first = table.read_bytes()
    call(monkeypatch, script)
    assert table.read_bytes() == first
    assert not list(full.glob("**/.*.tmp"))


@pytest.mark.usefixtures("full")
def test_p_values_has_a_row_per_method_and_number_of_checkpoints(monkeypatch):
    call(monkeypatch, "p_values")
    table = read("p_values").set_index(["method", "num_checkpoints"])
    order = ["loo", "loo_published", "ats", "influence", "grad_cos"]
    assert list(table.index) == [(method, count) for method in order for count in range(1, 6)]
    assert set(table.loc["loo_published", "n_seeds"]) == {3}
    assert set(table.loc["loo", "n_seeds"]) == {10}
    assert (table["n_pairs"] == SIGNAL.size).all()
    assert (table.loc["loo", "mean_p"] < 0.25).all()
    assert ((table.loc["grad_cos", "mean_p"] - 0.5).abs() < 0.1).all()
    assert (
        (table["mean_p_low"] < table["mean_p"]) & (table["mean_p"] < table["mean_p_high"])
    ).all()
    assert (table.loc["grad_cos", "share_q_below_05"] < 0.05).all()
    assert (table.loc["loo", "share_q_below_05"] > 0.4).all()
    assert table["mean_pairwise_std"].notna().groupby("method").all().to_dict() == {
        method: method.startswith("loo") for method in order
    }


@pytest.mark.usefixtures("full")
def test_p_values_of_few_checkpoints_are_of_the_last_ones(monkeypatch):
    call(monkeypatch, "p_values")
    table = read("p_values").set_index(["method", "num_checkpoints"])
    scores = results.read_scores(Experiment.parse(NAME), "loo")["score"].isel(checkpoint=[3, 4])
    expected = float(statistics.student_t(scores)["p"].mean())
    assert table.loc[("loo", 2), "mean_p"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("full")
def test_statistics_of_each_pair_are_stored_with_settings_and_coordinates(monkeypatch):
    call(monkeypatch, "p_values")
    pairs = results.open_scores(paths.pairs(NAME, "influence"), "")
    scores = results.read_scores(Experiment.parse(NAME), "influence")["score"]
    assert set(pairs) >= {"mean", "std", "t", "p", "q", "sign_agreement", "published_p", "n_seeds"}
    xr.testing.assert_allclose(
        pairs["p"].drop_vars("damping"), statistics.student_t(scores)["p"].drop_vars("damping")
    )
    assert int(pairs["n_seeds"]) == 10
    assert pairs["test_label"].dims == ("test",) and pairs["train_label"].dims == ("train",)
    assert '"method": "influence"' in pairs.attrs["settings"]


@pytest.mark.usefixtures("full")
def test_variance_finds_the_planted_components(monkeypatch):
    call(monkeypatch, "variance")
    table = read("variance").set_index(["method", "component"])
    components = {"seed", "epoch", "seed_x_epoch"}
    assert set(table.loc["loo"].index) == components | {"all_pairs_published"}
    assert set(table.loc["ats"].index) == components
    assert table.loc[("ats", "epoch"), "share"] == pytest.approx(0, abs=0.06)
    row = table.loc[("ats", "seed")]
    assert row["share"] == pytest.approx(0.8, abs=0.06)
    assert row["low"] < row["share"] < row["high"]
    assert row["variance"] == pytest.approx(0.25, abs=0.06)
    assert row["n_seeds"] == 10 and row["n_checkpoints"] == 5 and row["randomness"] == "init"


def test_crossed_runs_are_split_into_initialisation_order_and_interaction(monkeypatch):
    write_crossed(16)
    call(monkeypatch, "variance")
    table = read("variance", f"{NAME}_crossed").set_index("component")
    planted = {"init": 1, "order": 4, "interaction": 0, "epoch": 0, "run_x_epoch": 0.25}
    assert list(table.index) == list(planted)
    for component, variance in planted.items():
        assert table.loc[component, "share"] == pytest.approx(variance / 5.25, abs=0.1)
    assert set(table["n_seeds"]) == {16}


def test_tests_over_seeds_take_only_the_independent_runs_of_a_crossed_design(monkeypatch):
    write_crossed(16)
    call(monkeypatch, "p_values")
    assert set(read("p_values", f"{NAME}_crossed")["n_seeds"]) == {4}
    diagonal = analysis.independent_scores(Experiment.parse(f"{NAME}_crossed"), "ats")
    assert (diagonal["init"] == diagonal["order"]).all()


@pytest.mark.usefixtures("full")
def test_correlations_are_positive_where_methods_agree_about_what_helps(monkeypatch):
    call(monkeypatch, "correlations")
    table = read("correlations")
    assert len(table) == 10 * 4 * 2 * 2
    keys = ["method_a", "method_b", "statistic", "kind", "scope"]
    rows = table.set_index(keys)
    loo_ats = rows.loc[("loo", "ats", "mean", "pearson", "all_pairs")]
    assert loo_ats["value"] > 0.9
    assert loo_ats["low"] < loo_ats["value"] < loo_ats["high"]
    ats_influence = rows.loc[("ats", "influence", "mean", "spearman", "per_test")]
    assert ats_influence["value"] > 0.8
    assert rows.loc[("loo", "loo_published", "std", "pearson", "all_pairs"), "n_seeds"] == 3


@pytest.mark.usefixtures("full")
def test_reliability_of_signal_is_high_and_of_noise_is_none(monkeypatch):
    call(monkeypatch, "reliability")
    table = read("reliability")
    rows = table[table["scope"] == "all_pairs"].set_index(["method", "quantity"])
    assert rows.loc[("loo", "reliability"), "value"] > 0.9
    noise = rows.loc[("grad_cos", "reliability")]
    assert noise["low"] < 0 < noise["high"]
    with_loo = rows.loc[("ats", "cross_half_corrected")]
    assert with_loo["reference"] == "loo" and with_loo["n_seeds"] == 10
    assert with_loo["value"] == pytest.approx(1, abs=0.05)
    assert rows.loc[("loo_published", "same_seed"), "n_seeds"] == 3
    assert 0 < rows.loc[("loo", "label_share"), "value"] < 1
    within = table[table["scope"] == "within_labels"].set_index(["method", "quantity"])
    assert set(within.index) == set(rows.index) - {
        (method, "label_share") for method in rows.index.levels[0]
    }
    assert within.loc[("ats", "correlation"), "value"] != with_loo["value"]


@pytest.mark.usefixtures("full")
def test_accuracy_is_the_mean_over_seeds_with_students_interval(monkeypatch):
    call(monkeypatch, "accuracy")
    table = read("accuracy").set_index("split")
    assert table.loc["train", ["accuracy", "low", "high"]].tolist() == [1, 1, 1]
    shares = 1 - np.array([1, 2, 3, 2]) / NUM_TEST
    half = 3.182446 * shares.std(ddof=1) / 2  # Student's quantile of 3 degrees of freedom
    expected = [shares.mean(), shares.mean() - half, shares.mean() + half]
    np.testing.assert_allclose(table.loc["test", ["accuracy", "low", "high"]], expected, rtol=1e-5)
    assert table.loc["test", ["n_seeds", "n_checkpoints", "n_images"]].tolist() == [4, 5, NUM_TEST]
