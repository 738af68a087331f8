"""The graph of the work: it plans the paper's grid, and carries out a small experiment."""

import os
import subprocess
import sys

import pytest
from stage_scripts import SMALL, STAGES, make_subset

from tda import paths
from tda.experiments import PAPER_GRID, VIT_GRID, VIT_SMALL_GRID, Experiment


def snakemake(*arguments):
    """Run snakemake in the repository; the standard output and error of a successful run."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    finished = subprocess.run(
        command, cwd=paths.REPOSITORY, env=os.environ, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout + finished.stderr


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path


def test_the_grids_are_their_experiments():
    plan = snakemake("--dry-run", "paper", "paper_vit", "vit_small")
    for experiment in (*PAPER_GRID, *VIT_GRID, *VIT_SMALL_GRID):
        for stage in ("train", "loo", "ats", "gradients", "summary"):
            assert f"{stage}_{experiment.name}" in plan


def test_deviations_need_the_published_variants(tmp_path):
    """Each rule runs its own command: seen by running them on a stand-in for Python."""
    log, python = tmp_path / "log", tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexit 1\n')
    python.chmod(0o755)
    with pytest.raises(AssertionError):
        snakemake("--keep-going", "--config", f"python={python}", "--", "deviations")
    assert "train_cnn.py --task mnist3" in log.read_text()
    log.unlink()
    small = Experiment("cnn2", "mnist3", 10)
    for run in small.runs():
        for epoch in small.recipe.kept_epochs:
            file = paths.checkpoint(small, run.name, epoch)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    with pytest.raises(AssertionError):
        snakemake("--keep-going", "--config", f"python={python}", "--", "deviations")
    commands = log.read_text()
    for command in (
        "loo.py --variant published", "influence.py --solver lissa", "ats.py --optimizer sgd",
        "influence.py --also", "loo.py --task", "ats.py --task",
    ):  # fmt: skip
        assert commands.count(f"tda_cnn_scripts/{command}") == 1


def test_one_target_makes_scores_tables_and_figures_and_a_second_run_does_nothing(root):
    make_subset()
    target = ("--config", f"experiment={SMALL.name}", "--", SMALL.name)
    snakemake(*target)
    results = paths.results(SMALL.name)
    for stage in STAGES:
        assert len(list((results / "scores" / stage).glob("*.nc"))) == len(SMALL.runs())
    for table in ("p_values", "variance", "reliability", "correlations", "accuracy", "damping"):
        assert paths.table(SMALL.name, table).stat().st_size > 100
    figures = {path.stem for path in (results / "figures").glob("*.png")}
    assert figures == {
        "correlations", "damping", "gallery", "reliability", "score_distributions", "variance"
    }  # fmt: skip
    assert "| loo |" in (results / "summary.md").read_text()
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    assert "Nothing to be done" in snakemake(*target)
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


DISTRIBUTIONAL = (
    "regression_1d", "convergence", "concrete", "mnist3_spread", "mnist3_groups", "cifar10_pruning",
)  # fmt: skip


def test_distributional_experiments_are_made_and_drawn():
    plan = snakemake("--dry-run", "distributional")
    rules = {line.split()[0] for line in plan.splitlines() if line.strip()}
    for name in DISTRIBUTIONAL:
        assert {f"distributional_{name}_samples", f"distributional_{name}"} <= rules
