"""The summary of an experiment says no more than its number of seeds can."""

import re

import pytest
from score_files import METHODS, NAME, call, write_experiment, write_predictions

from bayestda.experiments import paths

TABLES = ("p_values", "reliability", "correlations", "accuracy")


def summary(monkeypatch, num_runs):
    """The summary of planted scores of some runs."""
    write_experiment(NAME, METHODS, **dict.fromkeys(METHODS, num_runs))
    write_predictions(NAME, [1, 2, 3][:num_runs])
    for script in (*TABLES, "summary"):
        call(monkeypatch, script, "--experiment", NAME)
    return (paths.results(NAME) / "summary.md").read_text()


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))


def test_two_seeds_have_values_without_intervals_and_the_caption_says_why(monkeypatch):
    text = summary(monkeypatch, 2)
    assert "nan" not in text
    assert "an interval needs three seeds" in text
    ats = next(line for line in text.splitlines() if line.startswith("| ats"))
    assert re.fullmatch(r"1\.00|\.\d\d", ats.split(" | ")[5])


def test_three_seeds_have_intervals(monkeypatch):
    text = summary(monkeypatch, 3)
    assert "nan" not in text and "needs three seeds" not in text
    ats = next(line for line in text.splitlines() if line.startswith("| ats"))
    assert " to " in ats.split(" | ")[5]
