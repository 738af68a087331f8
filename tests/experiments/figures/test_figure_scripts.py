"""Each figure script end to end, from a foreign folder, on score files with planted structure."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image
from planted_scores import write_scores

from bayestda.experiments import paths
from bayestda.experiments.figures.from_tables import variance_rows
from bayestda.experiments.grid import Experiment
from bayestda.plots.pairs import most_reliable

TABLES = ("p_values", "correlations", "variance", "reliability")
SMALL = Experiment("cnn2", "mnist3", 10)
BATCH = Experiment("cnn2", "mnist3", 50, "batch")
CROSSED = Experiment("cnn2", "mnist3", 20, "crossed")
COLOUR = Experiment("cnn2", "cifar10", 10)


def run_script(name, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(paths.REPOSITORY / "analysis" / f"{name}.py"), run_name="__main__")


@pytest.fixture(scope="module", autouse=True)
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TDA_ROOT", str(folder))
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        write_scores(SMALL, num_runs=4)
        write_scores(BATCH, num_runs=2)
        write_scores(CROSSED, methods=("loo", "grad_dot"))
        write_scores(COLOUR, methods=("loo", "grad_dot"), num_runs=3)
        for table in TABLES:
            run_script(table)
        yield folder


def written(capsys):
    return [Path(line) for line in capsys.readouterr().out.splitlines()]


def assert_legible(path):
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert min(image.size) >= 300
        assert round(image.info["dpi"][0]) == 150
        assert len(np.unique(np.asarray(image.convert("L")))) > 20
        return image.size


def test_histograms_are_figure_3_for_de_init_and_7_for_other_randomness(root, capsys):
    run_script("figures", "--figure", "p_value_histograms")
    files = written(capsys)
    assert files == [
        root / "results" / "figures" / f"figure_{number}_p_value_histograms.png"
        for number in ("03", "07")
    ]
    for file in files:
        assert_legible(file)


@pytest.mark.parametrize(
    ("name", "number"), [("p_value_by_size", "04"), ("p_value_by_checkpoints", "06")]
)
def test_line_figures_compare_all_experiments(root, capsys, name, number):
    run_script("figures", "--figure", name)
    file = root / "results" / "figures" / f"figure_{number}_{name}.png"
    assert written(capsys) == [file]
    assert_legible(file)


def test_correlations_are_written_under_the_papers_number(capsys):
    run_script("figures", "--figure", "correlations")
    files = written(capsys)
    assert files == [
        paths.figure(COLOUR.name, "figure_11_correlations"),
        paths.figure(SMALL.name, "figure_08_correlations"),
        paths.figure(CROSSED.name, "correlations"),
        paths.figure(BATCH.name, "figure_14_correlations"),
    ]
    for file in files:
        assert_legible(file)


@pytest.mark.parametrize("name", ["score_distributions", "variance", "reliability"])
def test_figures_of_one_experiment(capsys, name):
    of = ("--experiment", SMALL.name, CROSSED.name, BATCH.name)
    run_script("figures", "--figure", name, *of)
    files = written(capsys)
    assert files == [paths.figure(one.name, name) for one in (SMALL, CROSSED, BATCH)]
    for file in files:
        assert_legible(file)


@pytest.mark.parametrize("experiment", [SMALL, CROSSED, BATCH])
def test_every_component_of_the_variance_is_drawn_under_a_name_of_its_own(experiment):
    table = pd.read_csv(paths.table(experiment.name, "variance"))
    parts = table[table["component"] != "all_pairs_published"]
    drawn = variance_rows(experiment.randomness, table)
    assert drawn["component"].tolist() == parts["component"].tolist()
    assert drawn["category"].nunique() == parts["component"].nunique() >= 3


def test_gallery_of_loo_and_of_a_second_method(capsys):
    run_script("gallery", "--experiment", SMALL.name)
    run_script("gallery", "--experiment", COLOUR.name, "--method", "grad_dot")
    files = written(capsys)
    assert files == [
        paths.figure(SMALL.name, "gallery"),
        paths.figure(COLOUR.name, "gallery_loo_grad_dot"),
    ]
    small, tall = (assert_legible(file) for file in files)
    assert small[0] == tall[0]
    assert tall[1] > 1.5 * small[1]


def test_reliable_pairs_of_the_gallery_have_a_planted_effect():
    with xr.open_dataset(paths.pairs(SMALL.name, "loo"), engine="h5netcdf") as pairs:
        planted = set(pairs["train"].values[: pairs.sizes["train"] // 3].tolist())
        chosen = {train for train, _ in most_reliable(pairs, 3)}
    assert chosen <= planted


@pytest.mark.parametrize(
    ("figure", "table"),
    [
        ("p_value_by_size", "p_values"),
        ("correlations", "correlations"),
        ("variance", "variance"),
        ("reliability", "reliability"),
    ],
)
def test_missing_table_is_one_sentence_with_the_command(
    tmp_path, monkeypatch, capsys, figure, table
):
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    with pytest.raises(SystemExit) as stopped:
        run_script("figures", "--figure", figure, "--experiment", SMALL.name)
    message = capsys.readouterr().err
    assert stopped.value.code == 2
    assert f"python analysis/{table}.py --experiment {SMALL.name}" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("figure", ["p_value_histograms", "gallery", "score_distributions"])
def test_missing_pairs_name_the_earliest_missing_stage(tmp_path, monkeypatch, capsys, figure):
    asked = ("figures", "--figure", figure, "--experiment", SMALL.name)
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    with pytest.raises(SystemExit):
        run_script(*asked)
    assert "python tda_cnn_scripts/loo.py --task mnist3" in capsys.readouterr().err
    write_scores(SMALL, methods=("loo",), num_runs=2)
    with pytest.raises(SystemExit):
        run_script(*asked)
    assert f"python analysis/p_values.py --experiment {SMALL.name}" in capsys.readouterr().err


def test_damaged_table_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    path = paths.table(SMALL.name, "correlations")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    with pytest.raises(SystemExit):
        run_script("figures", "--figure", "correlations", "--experiment", SMALL.name)
    assert "is damaged" in capsys.readouterr().err


def test_comparing_figure_says_which_experiment_it_left_out(capsys):
    other = Experiment("cnn3", "mnist3", 50)
    of = ("--experiment", SMALL.name, other.name)
    run_script("figures", "--figure", "p_value_by_size", *of)
    assert f"left out: {paths.table(other.name, 'p_values')}" in capsys.readouterr().err


def test_scripts_do_not_import_torch():
    code = (
        "import runpy, sys\n"
        "from pathlib import Path\n"
        "for script in sorted(Path(sys.argv[1]).glob('analysis/*.py')):\n"
        "    runpy.run_path(str(script))\n"
        "assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(paths.REPOSITORY)}
    subprocess.run([sys.executable, "-c", code, str(paths.REPOSITORY)], check=True, env=environment)
