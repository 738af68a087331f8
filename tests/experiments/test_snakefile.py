"""The graph of the work: it plans the paper's grid, and carries out a small experiment."""

import os
import shutil
import subprocess
import sys

import pytest
from stage_scripts import SMALL, STAGES, make_subset

from bayestda.experiments import paths
from bayestda.experiments.data.tables import TABLES
from bayestda.experiments.grid import PAPER_GRID, VIT_GRID, VIT_SMALL_GRID, Experiment


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


def test_the_printed_numbers_need_the_released_way():
    plan = snakemake("--dry-run", "published")
    for stage in ("train", "loo", "ats", "gradients"):
        assert f"{stage}_cnn2_mnist3_10pc_published" in plan


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


def test_a_stage_that_finds_its_results_leaves_them_newer_than_what_they_are_made_from(tmp_path):
    make_subset()
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    run, name = SMALL.runs()[0].name, SMALL.name
    target = paths.scores(name, "ats", run)
    kept = [paths.checkpoint(SMALL, run, epoch) for epoch in SMALL.recipe.kept_epochs]
    for file, time in (
        (target, 0),
        (paths.predictions(name, run), 1),
        *((file, 1) for file in kept),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        os.utime(file, (time, time))
    asked = ("--config", "split=1", f"experiment={name}", f"python={python}", "--", str(target))
    assert f"ats_{name}" in snakemake("--dry-run", *asked)
    snakemake(*asked)
    assert "Nothing to be done" in snakemake(*asked)


def counts(plan):
    """Jobs of a dry run, by rule."""
    rows = (line.split() for line in plan.splitlines())
    pairs = [row for row in rows if len(row) == 2 and row[1].isdigit()]
    return {name: int(count) for name, count in pairs if not name.endswith(":")}


def test_split_work_is_a_job_for_each_run_and_for_each_share_of_its_retrainings():
    make_subset()
    name, runs = SMALL.name, len(SMALL.runs())
    plan = snakemake("--dry-run", "--printshellcmds", "--quiet", "host", "--config", "split=3",
                     f"experiment={name}", "--", name)  # fmt: skip
    found = counts(plan)
    assert found.pop("total") == sum(found.values()) == 7 * runs + 13
    assert found == {
        f"train_{name}": runs, f"loo_{name}_share": 3 * runs, f"loo_{name}": runs,
        f"ats_{name}": runs, f"gradients_{name}": runs,
        f"tables_{name}": 6, "figure": 5, f"summary_{name}": 1, name: 1,
    }  # fmt: skip
    train, loo = f"train_cnn.py {SMALL.flags}", f"tda_cnn_scripts/loo.py {SMALL.flags}"
    machine = "--jobs 1 --memory_gb 3"
    for seed_id in range(runs):
        assert f"{train} --seed_id {seed_id} {machine}" in plan
        for ids in ("0:4", "4:8", "8:12"):
            assert f"{loo} --seed_id {seed_id} --loo_ids {ids} {machine}" in plan
    assert plan.count("--loo_ids") == 3 * runs


STAND_IN = """#!/bin/bash
# Logs its command and makes the files of the stage, empty.
echo "$@" >> "$TDA_ROOT/log"
results=$TDA_ROOT/results/NAME models=$TDA_ROOT/models/cnn2/SHORT
seed_id=$(sed -nE 's/.*--seed_id ([0-9]+).*/\\1/p' <<< "$*")
run=$(sed -n "$((seed_id + 1))p" SEEDS)
make() { for file; do mkdir -p "$(dirname "$file")"; touch "$file"; done; }
case "$*" in
    train_cnn*) make $results/predictions/$run.nc $models/$run/epoch_1{1..5}.safetensors ;;
    *--loo_ids*) ;;
    *influence.py*) make $results/scores/{influence,grad_dot,grad_cos}/$run.nc ;;
    tda_cnn*) make $results/scores/$(basename $1 .py)/$run.nc ;;
    *summary*) make $results/summary.md ;;
    analysis*) make $results/$(basename $1 .py).csv ;;
esac
"""


def test_what_is_missing_is_made_by_the_jobs_of_its_run_alone(root):
    make_subset()
    name, (first, second, *_) = SMALL.name, [run.name for run in SMALL.runs()]
    python = root / "python"
    script = STAND_IN.replace("NAME", name).replace("SHORT", name.removeprefix("cnn2_"))
    python.write_text(script.replace("SEEDS", str(paths.SEEDS)))
    python.chmod(0o755)
    asked = ("--config", "split=2", f"experiment={name}", f"python={python}", "--", name)
    snakemake(*asked)
    assert len((root / "log").read_text().splitlines()) == 6 * 10 + 12
    assert not list(root.rglob("*.share"))
    assert "Nothing to be done" in snakemake(*asked)
    (root / "log").unlink()
    lost = (
        paths.checkpoint(SMALL, first, 15), paths.scores(name, "ats", first),
        paths.scores(name, "loo", second), *paths.results(name).glob("*.csv"),
    )  # fmt: skip
    for file in lost:
        file.unlink()
    (paths.results(name) / "summary.md").unlink()
    snakemake(*asked)
    stages = [line for line in (root / "log").read_text().splitlines() if "--seed_id" in line]
    assert sorted((line.split()[0].split("/")[-1], "--seed_id 0" in line) for line in stages) == [
        ("ats.py", True), ("influence.py", True),
        ("loo.py", False), ("loo.py", False), ("loo.py", False), ("train_cnn.py", True),
    ]  # fmt: skip
    assert "Nothing to be done" in snakemake(*asked)


def test_with_gpus_each_job_has_one_and_takes_as_many_members_as_fit():
    plan = snakemake("--profile", "profiles/local", "--dry-run", "--printshellcmds", "--quiet",
                     "host", "--config", "split=1", "gpu=1", "--", "cnn2_mnist3_10pc")  # fmt: skip
    assert counts(plan)["loo_cnn2_mnist3_10pc"] == 10
    assert plan.count("gpu=1") == 40
    assert "--memory_gb" not in plan
    assert "--loo_ids" not in plan


def test_split_further_training_has_its_models_and_orders():
    plan = snakemake("--dry-run", "--printshellcmds", "--quiet", "host", "--config", "split=2",
                     "--", "fimo_concrete")  # fmt: skip
    found = counts(plan)
    assert found["train_fimo_concrete"] == found["approximate_fimo_concrete"] == 6
    assert found["further_fimo_concrete_sgd_share"] == 2 * 6
    assert found["further_fimo_concrete_sgd_again_share"] == 2
    assert found["further_fimo_concrete_adam_share"] == 2 * 3
    assert (
        "further_train.py --task concrete --leave_out delete --train_seed 0 --seed_id 1 "
        "--loo_ids 50:100 --jobs 1"
    ) in plan


def test_reduced_tasks_are_trained_and_analysed():
    targets = [f"fimo_{task}_reduced" for task in ("adult", "heloc", "cifar10", "sst2")]
    for folder, files in {
        "heloc": ["rows.csv"], "sst2": ["train.parquet", "validation.parquet"]
    }.items():  # fmt: skip
        for file in files:  # which do not come with the project
            path = paths.root() / "data" / folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    found = counts(snakemake("--dry-run", "--quiet", "host", "--", *targets))
    for target in targets:
        assert found[f"train_{target}"] == found[f"approximate_{target}"] == 1
    assert found["further_fimo_sst2_reduced_adamw"] == found["fimo_gold_adult_reduced"] == 1


DISTRIBUTIONAL = (
    "regression_1d", "convergence", "concrete", "mnist3_spread", "mnist3_groups", "cifar10_pruning",
)  # fmt: skip


def test_distributional_experiments_are_made_and_drawn():
    plan = snakemake("--dry-run", "distributional")
    rules = {line.split()[0] for line in plan.splitlines() if line.strip()}
    for name in DISTRIBUTIONAL:
        assert {f"distributional_{name}_samples", f"distributional_{name}"} <= rules


def test_samples_are_looked_at_again_after_their_data_changed():
    for name in DISTRIBUTIONAL:
        samples = paths.distributional(name)
        samples.parent.mkdir(parents=True, exist_ok=True)
        samples.touch()
    data = paths.root() / "data" / "concrete"
    shutil.copytree(paths.REPOSITORY / "data" / "concrete", data)
    os.utime(data / f"rows.{TABLES['concrete'].suffix}", (2**32, 2**32))
    plan = counts(snakemake("--dry-run", "--quiet", "host", "--", "distributional"))
    again = {name for name in DISTRIBUTIONAL if f"distributional_{name}_samples" in plan}
    assert again == {"concrete", "convergence"}
