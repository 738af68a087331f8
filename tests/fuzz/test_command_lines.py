"""Any flags with any values: every script goes on to its work, or refuses in one sentence."""

import argparse
import os
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stage_scripts import run_path

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.data import prepare, prepare_tables, sentences, sources
from bayestda.experiments.networks import bert, pretrained
from bayestda.experiments.stages import distributional, workers

EACH = max(4, int(os.environ.get("FUZZ", "2000")) // 500)  # inputs of a script
SAME = "FUZZ" not in os.environ
SCRIPTS = sorted(
    file.relative_to(paths.REPOSITORY)
    for pattern in ("*.py", "tda_*_scripts/*.py", "analysis/*.py", "data/*.py")
    for file in paths.REPOSITORY.glob(pattern)
)
NUMBERS = [
    "0",
    "1",
    "-1",
    "3",
    "1e9",
    "nan",
    "inf",
    "-inf",
    "1_0",
    "٣",
    "9" * 25,
    "9" * 5000,
    "0.1",
]
TEXTS = ["", " ", "mnist3", "mnist3s7", "mnist3s" + "9" * 40, "cnn2_mnist3_10pc", "cpu", "meta",
         "cuda:77", "hub", "torchvision", "~nobody", "../..", "a" * 5000, "'; rm -rf /", "\udcff",
         "cnn2_mnist3_" + "9" * 5000 + "pc", "--", "%s", "{}", "energy", "vit_small"]  # fmt: skip
VALUES = st.one_of(st.sampled_from(NUMBERS + TEXTS), st.integers().map(str),
                   st.text(st.characters(exclude_characters="\0"), max_size=20))  # fmt: skip


class Captured(Exception):
    """Carries a script's parser out of it."""


def parser_of(script):
    def captured(parser, *_):
        raise Captured(parser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", captured)
        try:
            run_path(paths.REPOSITORY / script)
        except Captured as found:
            return found.args[0]
    raise AssertionError(f"{script} has no parser")


def flag(action):
    """A flag, with right values, wrong ones, or too many."""
    values = VALUES
    if action.choices:
        values = st.one_of(st.sampled_from([str(choice) for choice in action.choices]), VALUES)
    count = st.just(0) if action.nargs == 0 else st.integers(0, 3)
    return st.tuples(st.sampled_from(action.option_strings or [""]), count, st.lists(values)).map(
        lambda drawn: [drawn[0], *drawn[2][: drawn[1]]]
    )


def command_lines(script):
    actions = [action for action in parser_of(script)._actions if action.dest != "help"]
    flags = st.one_of(*map(flag, actions)) if actions else st.nothing()
    other = st.lists(VALUES, max_size=2)
    return st.lists(st.one_of(flags, flags, flags, other), max_size=5).map(
        lambda parts: [text for part in parts for text in part]
    )


@pytest.fixture
def no_work(monkeypatch, tmp_path):
    """Everything happens but the work itself, below an empty root."""

    def refused(*_):
        raise UserError("there is no network here")

    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workers, "computed", lambda *_: iter(()))
    monkeypatch.setattr(distributional, "make_samples", lambda *_: None)
    for name in ("_hub", "_torchvision"):
        monkeypatch.setattr(sources, name, refused)
    refused.cache_clear = lambda: None
    monkeypatch.setattr(pretrained, "_classifier", refused)
    monkeypatch.setattr(bert, "tokenizer", refused)
    monkeypatch.setattr(sentences, "_from_source", refused)
    monkeypatch.setattr(prepare, "_write", lambda *_: None)
    for name in ("adopt", "adopt_census"):
        monkeypatch.setattr(prepare_tables, name, refused)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_a_script_takes_or_refuses_a_command_line(script, capfd):
    count = 0

    @settings(
        max_examples=EACH, deadline=None, database=None, derandomize=SAME,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(command_lines(script))
    def every_line(line):
        nonlocal count
        count += 1
        status = run_path(paths.REPOSITORY / script, *line)
        said = capfd.readouterr().err
        assert status in (0, None, 2), (status, said)
        assert "Traceback" not in said
        if status == 2:
            assert "error: " in said

    every_line()
    print(f"\n{script}: {count} command lines", file=sys.stderr)
