"""What is missing, half done or wrong is one sentence of the analysis scripts."""

import json
import subprocess
import sys

import numpy as np
import pytest
from score_files import (
    NAME,
    NUM_TEST,
    NUM_TRAIN,
    call,
    read,
    write_crossed,
    write_experiment,
    write_run,
)

from bayestda.errors import UserError
from bayestda.experiments import analysis, paths, results
from bayestda.experiments.figures import read_tables
from bayestda.experiments.figures.read_tables import read_table
from bayestda.experiments.grid import Experiment, sign_of

pytestmark = pytest.mark.usefixtures("root")
SIGNAL = np.random.default_rng(0).normal(size=(NUM_TRAIN, NUM_TEST))


def test_an_unfinished_grid_is_one_sentence_and_the_other_experiments_are_done(monkeypatch, capsys):
    write_crossed(7)
    write_experiment(f"{NAME}_init_only", {"ats": SIGNAL})
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, "variance")
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "scores of 7 of 16 runs" in error and error.count("\n") == 1
    assert set(read("variance", f"{NAME}_init_only")["randomness"]) == {"init_only"}


@pytest.mark.parametrize("script", ["p_values", "variance", "reliability", "correlations"])
def test_two_seeds_and_two_methods_are_enough(monkeypatch, script):
    write_experiment(NAME, {"loo": SIGNAL, "ats": -SIGNAL}, loo=2, ats=2)
    call(monkeypatch, script)
    table = read(script)
    assert set(table["n_seeds"]) == {2}
    assert table.filter(regex="(^|_)(low|high)$").isna().all(axis=None)


def test_scores_that_are_not_finite_are_named(monkeypatch, capsys):
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
def test_missing_results_are_one_sentence(monkeypatch, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, "p_values", *arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_an_interruption_ends_with_the_status_of_one(monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["script", "--experiment", NAME])
    with pytest.raises(SystemExit) as stopped:
        analysis.main("doc", interrupted)
    assert stopped.value.code == 130


def test_one_method_alone_has_nothing_to_correlate_with(monkeypatch, capsys):
    write_experiment(NAME, {"loo": SIGNAL})
    with pytest.raises(SystemExit):
        call(monkeypatch, "correlations")
    assert "no two methods" in capsys.readouterr().err


def test_scripts_start_without_torch():
    write_experiment(NAME, {"ats": SIGNAL}, ats=2)
    script = paths.REPOSITORY / "analysis" / "p_values.py"
    code = (
        "import runpy, sys; sys.argv = ['p_values.py']; "
        f"runpy.run_path({str(script)!r}, run_name='__main__'); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(paths.table(NAME, "p_values")) in done.stdout


@pytest.mark.parametrize("script", ["correlations", "reliability"])
def test_methods_of_other_data_are_not_compared(monkeypatch, capsys, script):
    write_experiment(NAME, {"loo": SIGNAL, "ats": -SIGNAL})
    for run in Experiment.parse(NAME).runs():
        file = paths.scores(NAME, "ats", run.name)
        dataset = results.open_scores(file, "test")
        settings = json.loads(dataset.attrs["settings"])
        results.write_scores(file, dataset, {**settings, "data_hash": "of the exact images"})
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, script)
    assert stopped.value.code == 2
    assert "are of other data or another training" in capsys.readouterr().err


def test_the_damping_of_a_crossed_experiment_is_judged_on_independent_runs(monkeypatch):
    name = f"{NAME}_crossed"
    write_experiment(name, {"loo": SIGNAL, "influence": -SIGNAL})
    call(monkeypatch, "damping", "--experiment", name)
    assert set(read("damping", name)["n_seeds"]) == {4}


@pytest.mark.parametrize("name", ["data_hash", "tf32", "pretrained", "augment"])
def test_methods_of_unlike_training_are_not_compared(name):
    write_experiment(NAME, {"loo": SIGNAL, "ats": SIGNAL})
    experiment = Experiment.parse(NAME)
    for run in experiment.runs():
        path = paths.scores(NAME, "ats", run.name)
        settings = {**experiment.settings(), "method": "ats", **sign_of("ats"), name: "another"}
        results.write_scores(path, results.open_scores(path, "test"), settings)
    with pytest.raises(UserError, match=f"another training.*{name}"):
        analysis.comparable_scores(experiment, ["loo", "ats"])


def write_posterior(method, fingerprint, experiment):
    for run in experiment.runs():
        path = paths.scores(NAME, method, run.name)
        own = {"method": method, "posterior": fingerprint(run), **sign_of(method)}
        settings = {**experiment.settings(), **own}
        results.write_scores(path, results.open_scores(path, "test"), settings)


def test_methods_of_unlike_checkpoints_are_not_compared():
    experiment = Experiment.parse(NAME)
    write_experiment(NAME, {"loo": SIGNAL, "ats": SIGNAL, "grad_dot": SIGNAL})
    write_posterior("ats", lambda run: run.name, experiment)
    write_posterior("grad_dot", lambda run: run.name, experiment)
    assert len(analysis.comparable_scores(experiment, ["loo", "ats", "grad_dot"])) == 3
    last = experiment.runs()[-1].name
    write_posterior("grad_dot", lambda run: run.name.replace(last, "another"), experiment)
    file = paths.scores(NAME, "grad_dot", last)
    with pytest.raises(UserError) as error:
        analysis.comparable_scores(experiment, ["loo", "ats", "grad_dot"])
    assert str(error.value).startswith(f"{file} is of other checkpoints than the scores of ats")
    assert "`python tda_cnn_scripts/grad_dot.py" in str(error.value)


@pytest.mark.parametrize("name", ["reliability", "correlations"])
def test_a_table_of_an_earlier_version_is_one_sentence(name):
    experiment = Experiment.parse(NAME)
    paths.table(NAME, name).parent.mkdir(parents=True)
    paths.table(NAME, name).write_text("method,quantity,value\nloo,split_half,1\n")
    with pytest.raises(UserError, match=f"no column 'scope'.*analysis/{name}.py"):
        read_table(experiment, name)


@pytest.mark.parametrize("method", ["ats", "ats_sgd", "influence"])
def test_scores_and_statistics_of_the_papers_sign_are_refused(method, monkeypatch):
    experiment = Experiment.parse(NAME)
    write_experiment(NAME, {method: SIGNAL})
    call(monkeypatch, "p_values", "--experiment", NAME)
    assert len(read_tables.read_pairs(experiment, method)["p"])
    pairs = paths.pairs(NAME, method)
    for path in [pairs, *(paths.scores(NAME, method, run.name) for run in experiment.runs())]:
        dataset = results.open_scores(path, "test")
        settings = results.settings_of(dataset)
        settings.pop("sign", None)
        settings.get("scores", {}).pop("sign", None)
        results.write_scores(path, dataset, settings)
    with pytest.raises(UserError, match="has the paper's sign.*delete it and run `python tda_cnn"):
        analysis.independent_scores(experiment, method)
    with pytest.raises(UserError, match="has the paper's sign.*delete it and run `python analysis"):
        read_tables.read_pairs(experiment, method)
