"""The scripts of final-model-only attribution, end to end on Concrete with a short protocol."""

import json
import runpy
import shutil
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayestda as tda
from bayestda.curvature.filters import ridge
from bayestda.errors import UserError
from bayestda.experiments import checkpoints, final_models, final_results, paths, results
from bayestda.experiments.data.tables import load
from bayestda.experiments.final_models import FinalModels, evaluated_epochs
from bayestda.experiments.networks import seeded
from bayestda.experiments.networks.mlp import mlp
from bayestda.experiments.stages import approximation, mislabelling
from bayestda.experiments.stages.final_context import FinalContext
from bayestda.experiments.stages.final_systems import final_system
from bayestda.experiments.stages.options import Options
from bayestda.gradients.sample import SampleGradients
from bayestda.methods.influence import filtered_influence
from bayestda.model.losses import Regression
from bayestda.model.parameters import Parameters

MODELS, LEFT_OUT, TESTS = FinalModels("concrete"), 9, 5
METHODS = ("grad_dot", "influence", "corollary_2", "horizon", "horizon_linearised", "datainf")
ANALYSES = ("agreement", "damping", "gold", "seeds", "examples", "scratch", "ranking")
FLAGS = ("--task", "concrete", "--jobs", "1")
STACKED = {"further_train": ("--chunk", "4"), "mislabel": ("--chunk", "4")}


def short_protocol():
    protocol = final_models.PROTOCOLS["concrete"]
    further = {name: replace(recipe, epochs=2) for name, recipe in protocol.further.items()}
    training = replace(protocol.training, epochs=3)
    return replace(
        protocol, training=training, further=further, num_left_out=LEFT_OUT, num_evaluated=TESTS
    )


def run(script, *flags):
    """Run a script as a user does, in this process; returns its exit status."""
    arguments = [str(paths.REPOSITORY / script), *map(str, flags)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        try:
            runpy.run_path(arguments[0], run_name="__main__")
        except SystemExit as stopped:
            return stopped.code
    return 0


def stage(name, *flags):
    return run(f"tda_fimo_scripts/{name}.py", *FLAGS, *STACKED.get(name, ()), *flags)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A root in which all stages ran for two final models, from a foreign folder."""
    folder = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TDA_ROOT", str(folder))
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        patch.setitem(final_models.PROTOCOLS, "concrete", short_protocol())
        for train_seed in (0, 1):
            assert stage("train_final", "--train_seed", train_seed) == 0
            own = ("--train_seed", train_seed)
            assert stage("further_train", *own, "--num_seeds", 2) == 0
            assert stage("approximate", *own, "--methods", *METHODS) == 0
        assert (
            stage("further_train", "--train_seed", 0, "--start", "scratch", "--num_seeds", 1) == 0
        )
    return folder


@pytest.fixture(autouse=True)
def _use_root(root, monkeypatch):
    monkeypatch.setenv("TDA_ROOT", str(root))
    monkeypatch.setitem(final_models.PROTOCOLS, "concrete", short_protocol())


@pytest.fixture(scope="module")
def final():
    """The final model of seed 0, with its data."""
    split = load("concrete")
    network = seeded(lambda: mlp(8, 1), 0)
    return split, network


def parameters(network):
    run_0 = MODELS.finals([0])[0]
    file = checkpoints.files(MODELS, run_0)[0]
    settings = {**MODELS.settings(), "train_seed": 0, "data_hash": load("concrete").hash}
    assert file == paths.checkpoint(MODELS, "0", 3)
    return checkpoints.load(MODELS, run_0, Parameters(network), settings)[0]


def test_further_training_is_that_of_the_library(final):
    split, network = final
    Parameters(network).write(network, parameters(network))
    test = split.test.take(slice(TESTS))
    recipe = short_protocol().further["sgd"]
    expected = tda.further_train(
        network, Regression(), split.train, test, recipe, left_out=range(LEFT_OUT),
        seeds=[final_models.FIRST_ORDER + 1], epochs=[0, 1, 2], chunk=4,
    )  # fmt: skip
    stored = results.open_scores(paths.further("fimo_concrete", "sgd", "0x1"), "test")
    np.testing.assert_array_equal(stored["loss"][0, 0], expected["loss"][0])
    np.testing.assert_array_equal(stored["full"][0, 0], expected["full"][0])
    for name in ("left_out", "test", "step", "epoch", "horizon"):
        np.testing.assert_array_equal(stored[name], expected[name])
    assert stored["train_seed"].values.tolist() == [0]
    assert stored["seed"].values.tolist() == [1]


def test_approximations_are_the_librarys_in_the_scale_of_a_removal(final):
    split, network = final
    theta_P = parameters(network)
    gradients = SampleGradients(
        network, Regression(), theta_P, train=split.train, test=split.test.take(slice(TESTS)),
        memory_bytes=1e9,
    )  # fmt: skip
    expected = filtered_influence(gradients, ridge(0.1))[:LEFT_OUT] / len(split.train)
    file = paths.approximation("fimo_concrete", "influence", "0")
    score = results.open_scores(file, "test")["score"].sel(damping=0.1)
    np.testing.assert_allclose(score[0], expected, rtol=1e-4, atol=1e-12)


def test_gold_scores_are_in_the_scale_of_the_linearised_network():
    gold = tda.fully_adjusted(
        xr.concat(
            [
                results.open_scores(paths.further("fimo_concrete", "sgd", f"0x{seed}"), "test")
                for seed in (0, 1)
            ],
            dim="seed",
        ).isel(train_seed=0)
    ).mean("seed")
    file = paths.approximation("fimo_concrete", "horizon_linearised", "0")
    score = results.open_scores(file, "test")["score"][0]
    both = gold.sel(step=score["step"].values[-1]), score.isel(step=-1)
    ratio = float((both[0] * both[1]).sum() / (both[1] ** 2).sum())
    assert 0.7 < ratio < 1.4
    assert np.corrcoef(*(values.values.ravel() for values in both))[0, 1] > 0.8


@pytest.mark.parametrize("name", ["train_final", "further_train", "approximate"])
def test_a_second_run_does_nothing(name, root, capsys):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    own = {"further_train": ("--num_seeds", 2), "approximate": ("--methods", *METHODS)}
    assert stage(name, "--train_seed", 1, *own.get(name, ())) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def test_parts_of_a_killed_run_are_gone_on_with(root, monkeypatch):
    """A run whose members are made in two goes is the run made at once, to the last bit."""
    from bayestda.experiments.stages.further_training import FurtherTraining

    variant = paths.further("fimo_concrete", "sgd_delete", "0x0")
    flags = ("--train_seed", 0, "--seed_id", 0, "--leave_out", "delete")
    computed = []
    plain = FurtherTraining.compute

    def killed(self, context, items, chunk):
        computed.append(items)
        if len(computed) == 2:
            raise KeyboardInterrupt
        return plain(self, context, items, chunk)

    monkeypatch.setattr(FurtherTraining, "compute", killed)
    assert stage("further_train", *flags) == 130
    assert not variant.exists()
    assert stage("further_train", *flags) == 0
    assert computed == [range(8), range(8, 10), range(8, 10)]
    resumed = results.open_scores(variant, "test")
    monkeypatch.undo()
    monkeypatch.setenv("TDA_ROOT", str(root))
    monkeypatch.setitem(final_models.PROTOCOLS, "concrete", short_protocol())
    variant.unlink()
    assert stage("further_train", *flags) == 0
    xr.testing.assert_equal(resumed, results.open_scores(variant, "test"))
    variant.unlink()


@pytest.mark.parametrize("own", [(), ("--leave_out", "delete")])
def test_jobs_that_share_a_run_give_the_file_of_one(own, tmp_path, root, monkeypatch):
    """Members are trained four at a time, and their rounding does not depend on the ranges."""
    flags = ("--train_seed", 1, "--seed_id", 1, *own)
    variant = paths.further("fimo_concrete", "sgd_delete" if own else "sgd", "1x1")
    assert stage("further_train", *flags) == 0
    whole = results.open_scores(variant, "test")
    shutil.copytree(root / "models", tmp_path / "models")
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    for ids in ("6:9", "0:1", "1:6"):
        assert stage("further_train", *flags, "--loo_ids", ids) == 0
    shared = results.open_scores(paths.further("fimo_concrete", variant.parent.name, "1x1"), "test")
    shared.attrs["seconds"] = whole.attrs["seconds"]
    xr.testing.assert_identical(shared, whole)


def test_shares_of_a_run_end_with_the_left_out_examples(capsys):
    assert stage("further_train", "--train_seed", 0, "--loo_ids", "0:10") == 2
    expected = f"between 0 and {LEFT_OUT}, the number of examples that are left out in turn"
    assert expected in capsys.readouterr().err


def test_without_a_final_model_the_error_names_its_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    assert stage("further_train", "--train_seed", 7) == 2
    expected = "python tda_fimo_scripts/train_final.py --task concrete --train_seed 7"
    assert expected in capsys.readouterr().err


def test_results_of_another_protocol_are_refused(monkeypatch, capsys):
    protocol = short_protocol()
    further = {"sgd": replace(protocol.further["sgd"], lr=1.0)}
    monkeypatch.setitem(final_models.PROTOCOLS, "concrete", replace(protocol, further=further))
    assert stage("further_train", "--train_seed", 0, "--seed_id", 0) == 2
    assert "further_lr: file 0.03, asked 1.0" in capsys.readouterr().err


def test_results_carry_their_settings_and_origin():
    stored = results.open_scores(paths.further("fimo_concrete", "sgd", "1x0"), "test")
    settings = json.loads(stored.attrs["settings"])
    assert settings["order"] == final_models.FIRST_ORDER
    assert (settings["how"], settings["further_optimizer"]) == ("subtract", "sgd")
    assert stored.attrs["flags"] == "--task concrete --train_seed 1"
    assert stored.attrs["data_hash"] == load("concrete").hash


@pytest.fixture(scope="module")
def tables(root):
    """Tables of all analysis scripts, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TDA_ROOT", str(root))
        patch.setitem(final_models.PROTOCOLS, "concrete", short_protocol())
        for name in ANALYSES:
            assert run(f"analysis/fimo_{name}.py", "--task", "concrete") == 0
    folder = root / "results" / "fimo_concrete"
    return {name: pd.read_csv(folder / f"{name}.csv") for name in ANALYSES}


def test_tables_and_figures_are_written(tables, root):
    assert all(len(table) for table in tables.values())
    figures = {path.name for path in (root / "results" / "fimo_concrete" / "figures").iterdir()}
    assert {"gold_sorted.png", "seeds_sgd_full.png", "scratch.png"} <= figures
    table = tables["agreement"]
    assert set(table["method"]) == set(METHODS)
    assert table.query("metric == 'cosine'")["value"].between(-1, 1).all()
    best = table.query("method == 'horizon_linearised' and adjustment == 'full'")
    assert best["value"].max() > 0.8


def test_an_agreement_is_the_cosine_over_left_out_examples(tables):
    row = tables["agreement"].query(
        "method == 'grad_dot' and metric == 'cosine' and adjustment == 'full' and epoch == 2"
    )
    cosines = []
    for model in ("0", "1"):
        file = paths.approximation("fimo_concrete", "grad_dot", model)
        score_RM = results.open_scores(file, "test")["score"].values[0]
        further = [
            results.open_scores(paths.further("fimo_concrete", "sgd", f"{model}x{seed}"), "test")
            for seed in (0, 1)
        ]
        gold_RM = np.mean([tda.fully_adjusted(one)[0, 0, -1] for one in further], axis=0)
        norms = np.linalg.norm(gold_RM, axis=0) * np.linalg.norm(score_RM, axis=0)
        cosines.append((gold_RM * score_RM).sum(0) / norms)
    assert float(row["value"].iloc[0]) == pytest.approx(np.mean(cosines), rel=1e-4)
    error = np.mean(cosines, axis=0).std(ddof=1) / TESTS**0.5
    assert float(row["se_test"].iloc[0]) == pytest.approx(error, rel=1e-4)


def test_training_from_scratch_is_compared_with_further_training_after_each_epoch(tables):
    def scores(variant, run):
        stored = results.open_scores(paths.further("fimo_concrete", variant, run), "test")
        return tda.fully_adjusted(stored.isel(train_seed=0))[0]

    retrained_RM = scores("scratch", "0x0")[-1]
    gold_TRM = np.mean([scores("sgd", f"0x{seed}") for seed in (0, 1)], axis=0)
    table = tables["scratch"].query("method == 'further training' and metric == 'cosine'")
    assert table["epoch"].tolist() == [1, 2]
    for value, gold_RM in zip(table["value"], gold_TRM[1:], strict=True):
        norms = np.linalg.norm(gold_RM, axis=0) * np.linalg.norm(retrained_RM, axis=0)
        cosines = np.asarray(gold_RM * retrained_RM).sum(0) / norms
        assert value == pytest.approx(cosines.mean(), rel=1e-4)


def test_the_ranking_is_the_gain_on_the_best_other_method(tables):
    table = tables["agreement"].query(
        "metric == 'cosine' and adjustment == 'full' and variant == 'sgd' and choice != 'all'"
    )
    for row in tables["ranking"].itertuples():
        own = table[table["epoch"] == row.epoch].set_index("method")["value"]
        others = own.drop([name for name in own.index if name.startswith("horizon")])
        assert (row.best, row.other) == (others.idxmax(), pytest.approx(others.max(), rel=1e-4))
        assert row.difference == pytest.approx(own[row.method] - others.max(), abs=1e-5)


@pytest.mark.usefixtures("root")
def test_a_seeds_table_has_the_final_models_with_the_most_orders():
    extra = paths.further("fimo_concrete", "sgd", "0x1")
    hidden = extra.rename(extra.with_name(".hidden"))
    try:
        models = final_results.read_further(MODELS, "sgd", most_orders=True)
        assert (models["train_seed"].values.tolist(), models.sizes["seed"]) == ([1], 2)
        both = final_results.read_further(MODELS, "sgd")
        assert (both["train_seed"].values.tolist(), both.sizes["seed"]) == ([0, 1], 1)
    finally:
        hidden.rename(extra)


def test_deletion_with_another_optimiser_is_read_and_its_command_named():
    file = paths.further("fimo_concrete", "adam_delete", "0x0")
    file.parent.mkdir()
    try:
        shutil.copy(paths.further("fimo_concrete", "sgd", "0x0"), file)
        assert {"sgd", "adam_delete"} <= set(final_results.variants(MODELS))
        found = final_results.read_further(MODELS, "adam_delete")
        assert found.attrs["command"].endswith(
            "further_train.py --task concrete --optimizer adam --leave_out delete"
        )
    finally:
        shutil.rmtree(file.parent)


def test_training_from_scratch_with_deletion_is_refused(capsys):
    assert stage("further_train", "--start", "scratch", "--leave_out", "delete") == 2
    assert "leave out --leave_out or --start" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["approximate", "mislabel"])
def test_a_method_that_refuses_is_named_with_the_flags_without_it(name, monkeypatch):
    def refusing(_gradients, _damping):
        raise UserError("the kernel is singular")

    monkeypatch.setitem(approximation.SCORES, "trak", refusing)
    options = Options(method=(("methods", ("trak", "grad_dot")),))
    context = FinalContext(final_system(MODELS), MODELS.finals([0])[0], options)
    if name == "approximate":
        found = approximation.Approximate().compute(context, range(1), 1)
        assert str(found["trak"]) == "the kernel is singular"
        assert found["grad_dot"]["score"].sizes["left_out"] == LEFT_OUT
    else:
        with pytest.raises(UserError, match=r"trak cannot .*singular.*`--methods grad_dot`"):
            list(mislabelling.method_rows(context))


@pytest.fixture
def changed(root, tmp_path, monkeypatch):
    """Changes a setting of a result in a copy of the root."""
    shutil.copytree(root, tmp_path / "root")
    monkeypatch.setenv("TDA_ROOT", str(tmp_path / "root"))

    def change(path, name, value):
        dataset = results.open_scores(path, "test")
        settings = json.loads(dataset.attrs["settings"])
        results.write_scores(path, dataset, {**settings, name: value})
        return path

    return change


@pytest.mark.parametrize("setting", ["final", "data_hash", "further_lr"])
@pytest.mark.parametrize("run_name", ["0x1", "1x0"])
def test_further_training_of_other_models_data_or_recipes_is_not_mixed(changed, setting, run_name):
    if (setting, run_name) == ("final", "1x0"):
        changed(paths.further("fimo_concrete", "sgd", "1x1"), setting, "another")  # alike again
    file = changed(paths.further("fimo_concrete", "sgd", run_name), setting, "another")
    if (setting, run_name) == ("final", "1x0"):
        assert final_results.read_further(MODELS).sizes["train_seed"] == 2
        return
    with pytest.raises(UserError, match=rf"do not belong together \({setting}: ") as error:
        final_results.read_further(MODELS)
    assert str(file) in str(error.value) and "further_train.py --task" in str(error.value)


@pytest.mark.parametrize("setting", ["final", "data_hash"])
@pytest.mark.parametrize("value", ["another", None])
def test_an_approximation_of_another_model_is_not_compared(changed, setting, value):
    file = changed(paths.approximation("fimo_concrete", "grad_dot", "1"), setting, value)
    further, scratch = (final_results.read_further(MODELS, name) for name in ("sgd", "scratch"))
    assert final_results.read_approximation(MODELS, "influence", further).sizes["train_seed"] == 2
    assert final_results.read_approximation(MODELS, "grad_dot", scratch).sizes["train_seed"] == 1
    with pytest.raises(UserError, match=f"do not belong together .{setting}: ") as error:
        final_results.read_approximation(MODELS, "grad_dot", further)
    assert str(file) in str(error.value) and "approximate.py --task" in str(error.value)


def test_a_method_whose_scores_were_deleted_is_missed_and_not_left_out(
    root, tmp_path, monkeypatch, capsys
):
    shutil.copytree(root, tmp_path / "root")
    monkeypatch.setenv("TDA_ROOT", str(tmp_path / "root"))
    for file in paths.approximation("fimo_concrete", METHODS[0], "0").parent.glob("*.nc"):
        file.unlink()
    monkeypatch.setattr(sys, "argv", ["fimo_agreement.py", "--task", "concrete"])
    with pytest.raises(SystemExit):
        runpy.run_path(
            str(paths.REPOSITORY / "analysis" / "fimo_agreement.py"), run_name="__main__"
        )
    assert f"{METHODS[0]}/0.nc is missing: make it with" in capsys.readouterr().err


def test_measured_epochs_are_fine_at_the_start():
    assert evaluated_epochs(500) == [0, 1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100, 200, 300, 500]
    assert evaluated_epochs(25) == [0, 1, 2, 3, 5, 7, 10, 20, 25]


@pytest.mark.parametrize("name", ANALYSES)
def test_an_analysis_without_results_names_the_command_and_writes_nothing(
    name, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [f"fimo_{name}.py", "--task", "energy"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(paths.REPOSITORY / f"analysis/fimo_{name}.py"), run_name="__main__")
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    own = " --start scratch" if name == "scratch" else ""
    assert f"run `python tda_fimo_scripts/further_train.py --task energy{own}`" in error
    assert not list(tmp_path.iterdir())
