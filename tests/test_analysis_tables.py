import runpy
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from score_files import NUM_TEST, NUM_TRAIN, write_experiment, write_predictions, write_run

from tda import analysis, paths, statistics, store
from tda.errors import UserError
from tda.experiments import Experiment

NAME = "cnn2_mnist3_10pc"
TABLES = ("p_values", "variance", "reliability", "correlations", "accuracy")
RNG = np.random.default_rng(0)
SIGNAL = RNG.normal(size=(NUM_TRAIN, NUM_TEST))
METHODS = {
    "grad_cos": np.zeros_like(SIGNAL),
    "loo": SIGNAL,
    "ats": -SIGNAL,
    "influence": -2 * SIGNAL,
    "loo_published": 3 * SIGNAL,
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty project root, seen from a foreign folder."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("TDA_ROOT", str(tmp_path / "root"))
    monkeypatch.chdir(elsewhere)
    return tmp_path / "root"


@pytest.fixture
def full(root):
    """The main experiment with five methods; a variant has three of the ten seeds."""
    write_experiment(NAME, METHODS, loo_published=3)
    write_predictions(NAME, [1, 2, 3, 2])
    return root


def call(monkeypatch, script: str, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    path = paths.REPOSITORY / "analysis" / f"{script}.py"
    runpy.run_path(str(path), run_name="__main__")


def read(table: str, experiment: str = NAME) -> pd.DataFrame:
    return pd.read_csv(paths.table(experiment, table))


@pytest.mark.parametrize("script", TABLES)
def test_a_script_prints_what_it_wrote_and_writes_the_same_again(full, monkeypatch, capsys, script):
    call(monkeypatch, script, "--experiment", NAME)
    table = full / "results" / NAME / f"{script}.csv"
    assert capsys.readouterr().out.splitlines()[0] == str(table)
    first = table.read_bytes()
    call(monkeypatch, script)
    assert table.read_bytes() == first
    assert not list(full.glob("**/.*.tmp"))


def test_p_values_has_a_row_per_method_and_number_of_checkpoints(full, monkeypatch):
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


def test_p_values_of_few_checkpoints_are_of_the_last_ones(full, monkeypatch):
    call(monkeypatch, "p_values")
    table = read("p_values").set_index(["method", "num_checkpoints"])
    scores = store.read_scores(Experiment.parse(NAME), "loo")["score"].isel(checkpoint=[3, 4])
    expected = float(statistics.student_t(scores)["p"].mean())
    assert table.loc[("loo", 2), "mean_p"] == pytest.approx(expected, rel=1e-5)


def test_statistics_of_each_pair_are_stored_with_settings_and_coordinates(full, monkeypatch):
    call(monkeypatch, "p_values")
    pairs = store.open_scores(paths.pairs(NAME, "influence"), "")
    scores = store.read_scores(Experiment.parse(NAME), "influence")["score"]
    assert set(pairs) >= {"mean", "std", "t", "p", "q", "sign_agreement", "published_p", "n_seeds"}
    xr.testing.assert_allclose(
        pairs["p"].drop_vars("damping"), statistics.student_t(scores)["p"].drop_vars("damping")
    )
    assert int(pairs["n_seeds"]) == 10
    assert pairs["test_label"].dims == ("test",) and pairs["train_label"].dims == ("train",)
    assert '"method": "influence"' in pairs.attrs["settings"]


def test_variance_finds_the_planted_components(full, monkeypatch):
    call(monkeypatch, "variance")
    table = read("variance").set_index(["method", "component"])
    assert set(table.loc["loo"].index) == {"seed", "checkpoint", "all_pairs_published"}
    assert set(table.loc["ats"].index) == {"seed", "checkpoint"}
    row = table.loc[("ats", "seed")]
    assert row["share"] == pytest.approx(0.8, abs=0.06)
    assert row["low"] < row["share"] < row["high"]
    assert row["variance"] == pytest.approx(0.25, abs=0.06)
    assert row["n_seeds"] == 10 and row["n_checkpoints"] == 5 and row["randomness"] == "init"


def write_crossed(num_runs: int) -> None:
    experiment = Experiment.parse(f"{NAME}_crossed")
    rng = np.random.default_rng(1)
    of_init, of_order = rng.normal(size=(2, 10**4, NUM_TRAIN, NUM_TEST))
    for run in experiment.runs()[:num_runs]:
        noise = 0.5 * rng.normal(size=(1, 5, NUM_TRAIN, NUM_TEST))
        write_run(experiment, "ats", run, of_init[run.init] + 2 * of_order[run.order] + noise)


def test_crossed_runs_are_split_into_initialisation_order_and_interaction(root, monkeypatch):
    write_crossed(16)
    call(monkeypatch, "variance")
    table = read("variance", f"{NAME}_crossed").set_index("component")
    expected = {"init": 1 / 5.25, "order": 4 / 5.25, "interaction": 0, "checkpoint": 0.25 / 5.25}
    for component, share in expected.items():
        assert table.loc[component, "share"] == pytest.approx(share, abs=0.1)
    assert set(table["n_seeds"]) == {16}


def test_tests_over_seeds_take_only_the_independent_runs_of_a_crossed_design(root, monkeypatch):
    write_crossed(16)
    call(monkeypatch, "p_values")
    assert set(read("p_values", f"{NAME}_crossed")["n_seeds"]) == {4}
    diagonal = analysis.independent_scores(Experiment.parse(f"{NAME}_crossed"), "ats")
    assert (diagonal["init"] == diagonal["order"]).all()


def test_an_unfinished_grid_is_one_sentence_and_the_other_experiments_are_done(
    root, monkeypatch, capsys
):
    write_crossed(7)
    write_experiment(f"{NAME}_init_only", {"ats": SIGNAL})
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, "variance")
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "7 of the grid's 8 runs" in error and error.count("\n") == 1
    assert set(read("variance", f"{NAME}_init_only")["randomness"]) == {"init_only"}


def test_correlations_are_in_the_papers_signs_and_aligned(full, monkeypatch):
    call(monkeypatch, "correlations")
    table = read("correlations")
    assert len(table) == 10 * 4 * 2 * 2
    keys = ["method_a", "method_b", "statistic", "kind", "scope"]
    rows = table.set_index(keys)
    loo_ats = rows.loc[("loo", "ats", "mean", "pearson", "all_pairs")]
    assert loo_ats["value"] < -0.9 and loo_ats["aligned"] > 0.9
    assert loo_ats["low"] < loo_ats["value"] < loo_ats["high"]
    both_harm = rows.loc[("ats", "influence", "mean", "spearman", "per_test")]
    assert both_harm["value"] > 0.8 and both_harm["aligned"] == both_harm["value"]
    unsigned = table[table["statistic"].isin(["std", "p"])]
    pd.testing.assert_series_equal(unsigned["aligned"], unsigned["value"], check_names=False)
    assert rows.loc[("loo", "loo_published", "std", "pearson", "all_pairs"), "n_seeds"] == 3


def test_reliability_of_signal_is_high_and_of_noise_is_none(full, monkeypatch):
    call(monkeypatch, "reliability")
    rows = read("reliability").set_index(["method", "quantity"])
    assert rows.loc[("loo", "reliability"), "value"] > 0.9
    noise = rows.loc[("grad_cos", "reliability")]
    assert noise["low"] < 0 < noise["high"]
    with_loo = rows.loc[("ats", "cross_half_corrected")]
    assert with_loo["reference"] == "loo" and with_loo["n_seeds"] == 10
    assert with_loo["value"] == pytest.approx(-1, abs=0.05)
    assert with_loo["aligned"] == -with_loo["value"]
    assert rows.loc[("loo_published", "same_seed"), "n_seeds"] == 3


def test_accuracy_is_the_mean_over_seeds_with_students_interval(full, monkeypatch):
    call(monkeypatch, "accuracy")
    table = read("accuracy").set_index("split")
    assert table.loc["train", ["accuracy", "low", "high"]].tolist() == [1, 1, 1]
    shares = 1 - np.array([1, 2, 3, 2]) / NUM_TEST
    half = 3.182446 * shares.std(ddof=1) / 2  # Student's quantile of 3 degrees of freedom
    expected = [shares.mean(), shares.mean() - half, shares.mean() + half]
    np.testing.assert_allclose(table.loc["test", ["accuracy", "low", "high"]], expected, rtol=1e-5)
    assert table.loc["test", ["n_seeds", "n_checkpoints", "n_images"]].tolist() == [4, 5, NUM_TEST]


@pytest.mark.parametrize("script", TABLES[:4])
def test_two_seeds_and_two_methods_are_enough(root, monkeypatch, script):
    write_experiment(NAME, {"loo": SIGNAL, "ats": -SIGNAL}, loo=2, ats=2)
    call(monkeypatch, script)
    table = read(script)
    assert set(table["n_seeds"]) == {2}
    assert table.filter(regex="(^|_)(low|high)$").isna().all(axis=None)


def test_scores_that_are_not_finite_are_named(root, monkeypatch, capsys):
    write_experiment(NAME, {"loo": SIGNAL})
    experiment = Experiment.parse(NAME)
    run = experiment.runs()[4]
    broken = np.full((1, 5, NUM_TRAIN, NUM_TEST), np.nan)
    write_run(experiment, "loo", run, broken)
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, "p_values")
    assert stopped.value.code == 2
    assert f"{run.name}.nc holds scores that are not finite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "has no scores yet"),
        (["--experiment", "mnist"], "is no experiment"),
        (["--experiment", NAME], "has no scores: make them"),
    ],
)
def test_missing_results_are_one_sentence(root, monkeypatch, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, "p_values", *arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_an_interruption_ends_with_the_status_of_one(full, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["script"])
    with pytest.raises(SystemExit) as stopped:
        analysis.main("doc", interrupted)
    assert stopped.value.code == 130


def test_one_method_alone_has_nothing_to_correlate_with(root, monkeypatch, capsys):
    write_experiment(NAME, {"loo": SIGNAL})
    with pytest.raises(SystemExit):
        call(monkeypatch, "correlations")
    assert "no two methods" in capsys.readouterr().err


def test_a_variant_has_the_sign_of_its_method_and_a_stranger_has_none():
    assert analysis.helpful_sign("influence_lissa") == analysis.helpful_sign("influence") == -1
    assert analysis.helpful_sign("grad_dot") == analysis.helpful_sign("loo_published") == 1
    with pytest.raises(UserError, match="HELPFUL_SIGN"):
        analysis.helpful_sign("grad")


def test_scripts_start_without_torch(full):
    script = paths.REPOSITORY / "analysis" / "p_values.py"
    code = (
        "import runpy, sys; sys.argv = ['p_values.py']; "
        f"runpy.run_path({str(script)!r}, run_name='__main__'); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(paths.table(NAME, "p_values")) in done.stdout
