"""Scripts of distributional experiments end to end, with few runs, twice, from a foreign folder."""

import subprocess
import sys

import pandas as pd

from tda import paths


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
