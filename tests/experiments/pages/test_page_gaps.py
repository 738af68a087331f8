"""A page of what can be read: what cannot, or is out of date, is left out and said."""

import runpy
import shutil
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from planted_final import TESTS, energy_numbers, write_final
from planted_scores import write_scores

from bayestda.errors import UserError
from bayestda.experiments import paths, results
from bayestda.experiments.figures import fimo
from bayestda.experiments.grid import METHODS, VARIANTS, Experiment, sign_of
from bayestda.experiments.pages import final, images, readable
from bayestda.experiments.pages.words import CLASSES, METHOD_NOTES
from bayestda.page import rendering

SMALL = Experiment("cnn2", "mnist3", 10)
CROSSED = Experiment("cnn2", "mnist3", 10, "crossed")
COLOUR = Experiment("cnn2", "cifar10", 10)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    return tmp_path


def make(table, experiment, monkeypatch):
    monkeypatch.setattr(sys, "argv", [table, "--experiment", experiment.name])
    runpy.run_path(str(paths.REPOSITORY / "analysis" / f"{table}.py"), run_name="__main__")


def line_of(report, words):
    (found,) = (line for line in report.missing if words in line)
    return found


def test_a_method_that_cannot_be_read_is_left_out_and_said(root):
    write_scores(SMALL, ("loo", "grad_dot", "grad_cos"), num_runs=3)
    broken = paths.scores(SMALL.name, "grad_dot", SMALL.runs()[1].name)
    broken.write_bytes(broken.read_bytes()[:400])
    report = images.report_of(SMALL)
    assert list(report.methods) == ["loo", "grad_cos"]
    said = line_of(report, f"results/{SMALL.name}/scores/grad_dot/{broken.name}")
    assert "python tda_cnn_scripts/grad_dot.py --task mnist3" in said and str(root) not in said


def test_of_crossed_runs_those_that_are_a_sample_are_counted():
    write_scores(CROSSED, ("loo", "grad_dot"))
    for run in [run for run in CROSSED.runs() if run.init == run.order][1:]:
        paths.scores(CROSSED.name, "grad_dot", run.name).unlink()
    report = images.report_of(CROSSED)
    assert list(report.methods) == ["loo"] and report.methods["loo"].scores.sizes["seed"] == 4
    assert line_of(report, "Grad-Dot has scores of 1 independent runs, two are needed: python")


@pytest.mark.parametrize("experiment", [SMALL, CROSSED])
def test_parts_of_the_variance_are_those_of_the_runs(experiment, monkeypatch):
    write_scores(experiment, ("loo",), num_runs=None if experiment is CROSSED else 3)
    make("variance", experiment, monkeypatch)
    (section,) = (one for one in images.report_of(experiment).sections if one.name == "variance")
    told = {word: word in " ".join(section.text) for word in ("(seed)", "interaction")}
    assert told == {"(seed)": experiment is SMALL, "interaction": experiment is CROSSED}


def test_a_foreign_table_is_said_and_the_others_are_shown(monkeypatch):
    write_scores(SMALL, ("loo", "ats"), num_runs=3)
    make("reliability", SMALL, monkeypatch)
    for name, text in (
        ("p_values", "weight,height,n_seeds\n1,2,3\n"),
        ("correlations", ""),
        ("accuracy", "split,accuracy,n_seeds\n,x,3\n"),
    ):
        paths.table(SMALL.name, name).write_text(text)
    report = images.report_of(SMALL)
    for name in ("p_values", "correlations", "accuracy"):
        said = line_of(report, f"results/{SMALL.name}/{name}.csv is ")
        assert f"delete it and run `python analysis/{name}.py --experiment" in said
    (numbers,) = (section for section in report.sections if section.name == "numbers")
    assert [table.source for table in numbers.tables] == ["reliability.csv"]
    assert rendering.render(report)


def test_tables_that_are_of_other_runs_are_said(monkeypatch):
    for num_runs in (3, 4):
        write_scores(SMALL, ("loo", "ats"), num_runs=num_runs)
        make("correlations" if num_runs == 3 else "reliability", SMALL, monkeypatch)
    summary = paths.results(SMALL.name) / "summary.md"
    summary.write_text(f"{SMALL.name}: 3 seeds x 3 checkpoints\n")
    report = images.report_of(SMALL)
    older = [line for line in report.missing if "now: python" in line]
    assert older == [
        f"{what} is of 3 runs, and there are 4 now: python analysis/{script}.py "
        f"--experiment {SMALL.name}"
        for what, script in (("Table correlations", "correlations"), ("Summary", "summary"))
    ]


def test_of_crossed_runs_the_variance_takes_all(monkeypatch):
    write_scores(CROSSED, ("loo",))
    for name in ("variance", "p_values"):
        make(name, CROSSED, monkeypatch)
    assert not [line for line in images.report_of(CROSSED).missing if "now: python" in line]


def test_variants_have_notes_of_their_own_and_influence_its_damping():
    write_scores(SMALL, ("loo", "influence"), num_runs=3)
    folder = paths.scores(SMALL.name, "loo", "x").parent
    shutil.copytree(folder, folder.with_name("loo_published"))
    for run in SMALL.runs()[:3]:
        file = paths.scores(SMALL.name, "influence", run.name)
        scores = results.open_scores(file, "x").drop_attrs().expand_dims(damping=[0.03, 0.3])
        results.write_scores(file, scores, {"n": 1, **sign_of("influence")}, default_damping=0.3)
    shown = images.report_of(SMALL).methods
    assert "λ = 0.3" in shown["influence"].note and "λ" not in shown["loo"].note
    assert "trained on" in shown["loo_published"].note
    assert shown["loo_published"].note != shown["loo"].note
    assert METHOD_NOTES.keys() == {*METHODS, *VARIANTS}


def test_labels_have_the_names_of_their_classes():
    write_scores(COLOUR, ("loo",), num_runs=2)
    (section,) = (one for one in images.report_of(COLOUR).sections if one.name == "labels")
    (table,) = section.tables
    shown = {column.removeprefix("test ") for column in table.columns[1:]}
    shown |= {row[0].text.removeprefix("train ") for row in table.rows}
    assert shown and shown <= set(CLASSES["cifar10"])


# ---- final-model-only attribution ---------------------------------------------------------------


@pytest.fixture
def energy():
    _, left_out, test, _ = energy_numbers()
    write_final("energy", (0, 1), (0, 1), (left_out, test), np.zeros((TESTS, 1)))
    influence = paths.approximation("fimo_energy", "influence", "x").parent
    for name in ("cg", "horizon_linearised"):
        shutil.copytree(influence, influence.with_name(name))


def rewritten(path, change):
    found = results.open_scores(path, "x")
    settings, flags = results.settings_of(found), found.attrs.get("flags", "")
    results.write_scores(path, change(found).drop_attrs(), settings, flags=flags)


@pytest.mark.usefixtures("energy")
def test_what_lacks_a_final_model_is_left_out_and_said(root):
    paths.approximation("fimo_energy", "influence", "1").unlink()
    sgd = paths.further("fimo_energy", "sgd", "x").parent
    shutil.copytree(sgd, sgd.with_name("adam"))
    rewritten(paths.further("fimo_energy", "adam", "1x0"), lambda own: own * np.nan)
    report = final.report_of("fimo_energy")
    assert list(report.methods) == ["further_sgd", "cg", "horizon_linearised"]
    said = line_of(report, "results/fimo_energy/approximations/influence/1.nc is missing")
    assert "python tda_fimo_scripts/approximate.py --task energy --train_seed 1" in said
    assert str(root) not in said
    assert line_of(report, "scores of adam are not all finite")


@pytest.mark.usefixtures("energy")
def test_damaged_predictions_and_tables_are_said():
    file = paths.predictions("fimo_energy", "0")
    file.write_bytes(file.read_bytes()[:300])
    paths.table("fimo_energy", "agreement").write_text("")
    pd.DataFrame({"a": [1]}).to_csv(paths.table("fimo_energy", "damping"), index=False)
    report = final.report_of("fimo_energy")
    assert report.predictions is None and line_of(report, "results/fimo_energy/predictions/0.nc is")
    assert line_of(report, "results/fimo_energy/agreement.csv is damaged")
    (numbers,) = report.sections
    assert [table.source for table in numbers.tables] == ["damping.csv"]
    paths.table("fimo_energy", "agreement").write_text("a,b\n1,2\n")
    said = line_of(final.report_of("fimo_energy"), "results/fimo_energy/agreement.csv is not as it")
    assert "run `python analysis/fimo_agreement.py --task energy`" in said


def test_a_sentence_about_a_file_is_not_wrapped_in_another(root):
    with pytest.raises(UserError, match="^0.nc is damaged$"), readable.as_written(root, "make"):
        raise UserError("0.nc is damaged")
    with pytest.raises(UserError, match="is not as it was written"):  # noqa: SIM117
        with readable.as_written(root, "make"):
            raise ValueError("0.nc is damaged")


@pytest.mark.usefixtures("energy")
def test_methods_have_the_colours_of_the_figures():
    shown = final.report_of("fimo_energy").methods
    assert shown["influence"].colour == fimo.LINES["influence"][1].lower()
    assert shown["horizon_linearised"].colour == "var(--ink)"  # black, and light on a dark page
    drawn = {mpl.colors.to_hex(colour) for _, colour, _ in fimo.LINES.values()}
    assert shown["further_sgd"].colour.lower() not in drawn
