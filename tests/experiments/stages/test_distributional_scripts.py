"""Scripts of distributional experiments end to end, with few runs, twice, from a foreign folder."""

import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from stage_scripts import run_path

from bayestda.errors import UserError
from bayestda.experiments import paths, results
from bayestda.experiments.samples import cifar10_pruning as pruning
from bayestda.experiments.samples import concrete
from bayestda.experiments.samples import mnist3_spread as spread
from bayestda.experiments.stages import distributional


def script(*arguments, root, ok=True):
    command = [sys.executable, str(paths.REPOSITORY / arguments[0]), *arguments[1:]]
    finished = subprocess.run(
        command, cwd=root.parent / "elsewhere", capture_output=True, text=True
    )
    assert (finished.returncode == 0) == ok, finished.stderr
    return finished.stdout + finished.stderr


def test_the_mean_and_w2_name_different_examples(root):
    """With 12 runs of 100: the anchor, example 20, has the largest W2, and not by its mean."""
    made = script("tda_distributional_scripts/regression_1d.py", "--runs", "12", root=root)
    samples = paths.distributional("regression_1d")
    assert str(samples) in made
    before = samples.stat().st_mtime_ns
    script("tda_distributional_scripts/regression_1d.py", "--runs", "12", root=root)
    assert samples.stat().st_mtime_ns == before
    script("analysis/distributional_regression_1d.py", root=root)
    table = pd.read_csv(paths.table("distributional_regression_1d", "examples"))
    first = table[table["rank"] == 1].set_index(["source", "difference"])["train"]
    assert first["predicted", "wasserstein"] == first["retrained", "wasserstein"] == 20
    assert first["predicted", "std"] == first["retrained", "std"] == 20
    figure = paths.figure("distributional_regression_1d", "regression_1d")
    assert figure.stat().st_size > 10_000
    refused = script("tda_distributional_scripts/regression_1d.py", root=root, ok=False)
    assert "was made with other settings (runs: file 12, asked 100)" in refused


def test_what_is_missing_is_named_with_its_command(root):
    said = script("analysis/distributional_concrete.py", root=root, ok=False)
    assert "make it with `python tda_distributional_scripts/concrete.py`" in said
    few = script("tda_distributional_scripts/concrete.py", "--runs", "2", root=root, ok=False)
    assert "--runs 2 are too few to compare distributions: 4 or more" in few


@pytest.mark.usefixtures("root")
def test_samples_of_other_data_are_refused(monkeypatch):
    """As when data/prepare.py has replaced JPEG images by the original ones."""
    made = []

    def make(num_runs):
        made.append((num_runs, torch.get_num_threads()))
        return xr.Dataset()

    def run(data_hash):
        monkeypatch.setattr(concrete, "data", lambda: SimpleNamespace(hash=data_hash))
        distributional.make_samples("concrete", {"runs": 4})

    monkeypatch.setattr(concrete, "make", make)
    torch.set_num_threads(2)
    for _ in range(2):
        run("one")
    assert made == [(4, 1)]
    with pytest.raises(UserError, match=r"\(data_hash: file 'one', asked 'other'\)"):
        run("other")


@pytest.mark.parametrize("name", ["concrete", "convergence", "mnist3_spread", "mnist3_groups",
                                  "cifar10_pruning"])  # fmt: skip
@pytest.mark.usefixtures("root")
def test_scripts_that_read_data_record_which(monkeypatch, name):
    """They make no samples here."""
    experiment = import_module(f"bayestda.experiments.samples.{name}")
    monkeypatch.setattr(experiment, "make", lambda *_counts: xr.Dataset())
    assert run_path(paths.REPOSITORY / f"tda_distributional_scripts/{name}.py") == 0
    made = results.open_scores(paths.distributional(name), "test")
    assert results.settings_of(made)["data_hash"] == experiment.data().hash


def test_concrete_ranks_removals_by_the_number_of_runs(root):
    """With 6 runs of 100: unrolled shifts know retraining with the same seeds best."""
    script("tda_distributional_scripts/concrete.py", "--runs", "6", root=root)
    script("analysis/distributional_concrete.py", root=root)
    folder = "distributional_concrete"
    curves = pd.read_csv(paths.table(folder, "curves"))
    assert set(curves["n_seeds"]) == {1, 3, 6}
    whole = curves[(curves["method"] == "trak") & (curves["n_seeds"] == 6)]
    assert whole["difference"].tolist() == ["mean", "wasserstein"]
    assert whole.set_index("difference")["value"]["mean"] > 0.2
    assert curves[curves["method"] == "trak"].groupby("difference")["value"].nunique().min() == 3
    lds = pd.read_csv(paths.table(folder, "lds"))
    common = lds[(lds["random_numbers"] == "common") & (lds["difference"] == "variance")]
    variance = common.set_index("method")["value"]
    assert variance["unrolled"] > 0.9
    assert variance["unrolled"] > variance.drop("unrolled").max()
    for figure in ("concrete", "concrete_lds"):
        assert paths.figure(folder, figure).stat().st_size > 10_000


def test_images_are_chosen_for_the_spread_by_some_runs_and_confirmed_by_others(root, monkeypatch):
    """With 4 runs of 150, 4 retrained of 500, and 2 epochs of 15."""
    monkeypatch.setattr(spread.margins, "RECIPE", replace(spread.margins.RECIPE, epochs=2))
    monkeypatch.setattr(spread, "NUM_QUERIES", 12)
    samples = spread.make(4, 4)
    assert not set(samples["seed"].values) & set(samples["other_seed"].values)
    chosen = set(samples["pair_train"].values)
    assert (samples["control"] == ~samples["removed"].isin(list(chosen))).all()
    difference = samples["pair_difference"].values
    for name in ("pair_train", "pair_test"):  # no image and no query twice in three
        assert len(set(zip(samples[name].values, difference, strict=True))) == 6
    results.write_scores(paths.distributional("mnist3_spread"), samples, {})
    script("analysis/distributional_mnist3_spread.py", root=root)
    folder = "distributional_mnist3_spread"
    table = pd.read_csv(paths.table(folder, "pairs"))
    assert (table["low"] <= table["high"]).all()
    first = table[(table["pair"] == 2) & (table["difference"] == "mean")]
    row = first[(first["source"] == "retrained") & (first["role"] == "chosen")].iloc[0]
    before = samples["before"].isel(checkpoint=0).sel(test=row["test"])
    after = samples["retrained"].isel(checkpoint=0).sel(test=row["test"], removed=row["train"])
    moved = float((after - before).mean() / before.std(ddof=1))
    assert np.isclose(row["value"], moved, rtol=1e-4)
    tests = pd.read_csv(paths.table(folder, "tests"))
    assert tests["role"].value_counts().to_dict() == {"control": 30, "chosen": 6}
    assert (tests["p_holm"].notna() == (tests["role"] == "chosen")).all()
    assert len(pd.read_csv(paths.table(folder, "agreement"))) == 6
    assert paths.figure(folder, "mnist3_spread").stat().st_size > 10_000


def test_margins_fall_without_their_class(root):
    """With 4 runs of 30: more without it than without random images; the prediction says so."""
    script("tda_distributional_scripts/mnist3_groups.py", "--runs", "4", root=root)
    script("analysis/distributional_mnist3_groups.py", root=root)
    means = pd.read_csv(paths.table("distributional_mnist3_groups", "groups"))
    means = means[means["own"]].set_index("group")
    for column in ("mean_change", "mean_predicted"):
        classes = means[column][[f"class {c}" for c in range(3)]]
        others = means[column][[f"random {i}" for i in range(3)]]
        assert classes.max() < others.min() and classes.max() < 0
    assert paths.figure("distributional_mnist3_groups", "mnist3_groups").stat().st_size > 10_000


def test_pruning_removes_what_the_scores_say(root, monkeypatch):
    """With 2 runs of 10 and 1 epoch of 30."""
    monkeypatch.setattr(pruning, "RECIPE", replace(pruning.RECIPE, epochs=1))
    monkeypatch.setattr(pruning, "SHARES", (0.1, 0.5))
    monkeypatch.setattr(pruning, "NUM_VALIDATION", 10)
    scores_SN = np.random.default_rng(1).normal(size=(4, 100))
    masks_RN = pruning.removed(scores_SN, 2)
    assert masks_RN.sum(1).tolist() == [0, 10, 50, 10, 50, 10, 50]
    assert scores_SN[2][masks_RN[2]].max() < scores_SN[2][~masks_RN[2]].min()
    assert scores_SN.mean(0)[masks_RN[4]].max() < scores_SN.mean(0)[~masks_RN[4]].min()
    samples = pruning.make(2)
    results.write_scores(paths.distributional("cifar10_pruning"), samples, {})
    script("analysis/distributional_cifar10_pruning.py", root=root)
    table = pd.read_csv(paths.table("distributional_cifar10_pruning", "pruning"))
    rows = table[(table["measure"] == "loss") & (table["share"] == 0.5)].set_index("rule")
    change = (samples["loss"].sel(share=0.5) - samples["whole_loss"]).mean("run")
    for rule in ("single", "averaged", "random"):
        assert np.isclose(rows["mean"][rule], float(change.sel(rule=rule)), rtol=1e-4)
    assert rows["random_mean"]["random"] == 0
    figure = paths.figure("distributional_cifar10_pruning", "cifar10_pruning")
    assert figure.stat().st_size > 10_000
