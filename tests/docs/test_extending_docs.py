"""docs/extending.md runs as written, and what it adds appears everywhere it should."""

import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from planted_scores import write_scores
from stage_scripts import run_path

from bayestda.experiments import metrics, networks, paths, results, tasks
from bayestda.experiments.data import subsets
from bayestda.experiments.figures import catalogue, names
from bayestda.experiments.grid import Experiment

PAGE = (paths.REPOSITORY / "docs" / "extending.md").read_text()
SMALL = Experiment("cnn2", "mnist3", 10)
SHAPES = Experiment("cnn2", "shapes", 4)


def section(heading):
    """The blocks of a section, in order: (language, text)."""
    text = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)[1]
    return re.findall(r"```(python|bash)\n(.*?)```", text, re.S)


def code_of(heading):
    return "\n".join(text for language, text in section(heading) if language == "python")


def run_section(heading):
    """Run the blocks of a section as they stand; what its Python names are afterwards."""
    found: dict = {}
    for language, text in section(heading):
        if language == "python":
            exec(compile(text, "extending.md", "exec"), found)
            continue
        for line in text.splitlines():
            _, script, *flags = shlex.split(line)
            alone = () if script.startswith(("analysis", "data")) else ("--jobs", "1")
            assert run_path(paths.REPOSITORY / script, *flags, *alone) in (0, None), line
    return found


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """A root of its own and a foreign folder; entries that were added are gone afterwards."""
    monkeypatch.setenv("TDA_ROOT", str(tmp_path / "root"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    entries = (tasks.TASKS, metrics.METRICS, catalogue.FIGURES)
    before = [dict(known) for known in entries]
    yield tmp_path / "root"
    for known, own in zip(entries, before, strict=True):
        known.clear()
        known.update(own)


@pytest.fixture
def analysed():
    """Tables of planted scores, as analysis scripts write them."""
    write_scores(SMALL, num_runs=4)
    for table in ("p_values", "reliability", "correlations"):
        assert run_path(paths.REPOSITORY / "analysis" / f"{table}.py") == 0
    rows = {"split": ["train", "test"], "accuracy": [1.0, 0.9], "low": [1.0, 0.8],
            "high": [1.0, 1.0], "n_seeds": 4}  # fmt: skip
    results.write_csv(paths.table(SMALL.name, "accuracy"), pd.DataFrame(rows))


def plan(heading, *arguments):
    """A dry run of snakemake by a process that knows a section's entries."""
    code = f"{code_of(heading)}\nfrom snakemake.cli import main\nmain()"
    command = [sys.executable, "-c", code, "--cores", "1", "--dry-run", "--quiet", "host"]
    environment = {**os.environ, "PYTHONPATH": str(paths.REPOSITORY)}
    done = subprocess.run(
        [*command, "--snakefile", str(paths.REPOSITORY / "Snakefile"), *arguments],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def test_packages_of_the_page_are_those_of_the_house():
    listed = re.findall(r"^\| `(\w+)` \|", PAGE, re.M)
    folder = paths.REPOSITORY / "bayestda"
    there = {path.stem for path in folder.iterdir() if not path.stem.startswith("__")}
    assert set(listed) == there
    assert len(listed) == len(there)


def test_a_task_is_prepared_trained_and_scored_by_its_entry_alone():
    run_section("A new image task")
    split = subsets.load(SHAPES)
    assert split.train.x.shape == (12, 3, 12, 12)
    assert np.bincount(split.test.y).tolist() == [2, 2, 2]
    for run in SHAPES.runs()[:2]:
        assert paths.predictions(SHAPES.name, run.name).exists()
        assert len(list(paths.checkpoint(SHAPES, run.name, 1).parent.glob("*.safetensors"))) == 5
    logits = results.open_scores(paths.predictions(SHAPES.name, SHAPES.runs()[0].name), "train")
    assert logits["test_logit"].sizes["output"] == 3
    scores = results.open_scores(paths.scores(SHAPES.name, "grad_dot", SHAPES.runs()[0].name), "")
    assert (scores["score"].sizes["train"], scores["score"].sizes["test"]) == (12, 6)
    assert "Shapes" in names.title(SHAPES)
    assert tasks.task("shapess7").output_names == ["circle", "square", "cross"]
    assert networks.build("cnn3", "shapess7", 0)(split.train.x).shape == (12, 3)


def test_a_task_is_planned_by_the_snakefile():
    run_section("A new image task")
    found = plan("A new image task", "--config", f"experiment={SHAPES.name}", "--", SHAPES.name)
    for rule in ("loo", "gradients", "tables", "summary"):
        assert f"rule {rule}_{SHAPES.name}:" in found


@pytest.mark.usefixtures("analysed")
def test_a_metric_appears_in_its_table_figure_summary_and_page():
    added = run_section("A new metric")
    table = pd.read_csv(paths.table(SMALL.name, "reliability"))
    rows = table[(table["quantity"] == "same_best") & (table["scope"] == "all_pairs")]
    assert set(rows["method"]) == {"ats", "influence", "grad_dot", "grad_cos"}
    for row in rows.itertuples():
        assert row.value == pytest.approx(brute_force(row.method))
        assert row.low < row.value < row.high
    (_, drawing), *_ = catalogue.reliability(SMALL)
    lines = [tick.get_text() for axis in drawing.axes for tick in axis.get_yticklabels()]
    assert added["METRICS"]["same_best"].label in lines
    header = next(line for line in summary().splitlines() if line.startswith("| method"))
    assert header.endswith("| same best |")
    page = (paths.results(SMALL.name) / "report.html").read_text()
    assert "same best" in page
    assert "share of test images with the same most helpful image as LOO" in page


def summary():
    return (paths.results(SMALL.name) / "summary.md").read_text()


def brute_force(method):
    """The share of test images with the same most helpful image, pair by pair."""
    best = []
    for name in ("loo", method):
        runs = results.read_scores(SMALL, name)["score"].mean("checkpoint")
        runs = runs.transpose("seed", "train", "test").values
        best.append([max(range(runs.shape[1]), key=lambda n: sum(runs[:, n, m]))
                     for m in range(runs.shape[2])])  # fmt: skip
    return np.mean([a == b for a, b in zip(*best, strict=True)])


@pytest.mark.usefixtures("analysed")
def test_a_figure_is_drawn_planned_and_shown():
    assert run_path(paths.REPOSITORY / "analysis" / "summary.py") == 0
    run_section("A new figure")
    assert paths.figure(SMALL.name, "seeds_needed").stat().st_size > 5_000
    page = (paths.results(SMALL.name) / "report.html").read_text()
    assert "Seeds needed" in page
    marker = paths.drawn(SMALL.name, "seeds_needed")
    (paths.results(SMALL.name) / "summary.md").unlink()
    planned = plan("A new figure", "--", SMALL.name)
    assert "figure=seeds_needed" in planned
    assert str(marker) in planned
