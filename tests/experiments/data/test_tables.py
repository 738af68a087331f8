"""Tabular tasks: exact row counts, splits, standardisation, codes, and every kind of wrong file."""

import runpy
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from image_folders import whole_data
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.data import tables
from bayestda.experiments.data.recoding import ACS_COLUMNS, ACS_INCOME, clean_heloc, filled
from bayestda.experiments.data.tables import TABLES, load, read_rows
from bayestda.experiments.networks.mlp import mlp


@pytest.mark.parametrize(
    ("task", "num_train", "num_test", "num_features"),
    [("concrete", 927, 103, 8), ("energy", 691, 77, 8), ("adult", 30085, 10029, 104)],
)
def test_splits_have_the_papers_sizes_and_are_those_of_scikit_learn(
    task, num_train, num_test, num_features
):
    split = load(task)
    assert split.train.x.shape == (num_train, num_features)
    assert (len(split.train), len(split.test)) == (num_train, num_test)
    rows = np.arange(TABLES[task].num_rows)
    train, test = train_test_split(rows, train_size=num_train, test_size=num_test, random_state=0)
    np.testing.assert_array_equal(split.train.index, train)
    np.testing.assert_array_equal(split.test.index, test)


def test_the_default_sizes_of_scikit_learn_give_the_same_split():
    train, test = train_test_split(np.arange(768), test_size=0.1, random_state=0)
    np.testing.assert_array_equal(load("energy").train.index, train)
    np.testing.assert_array_equal(load("energy").test.index, test)


@pytest.mark.parametrize("task", ["concrete", "energy", "adult"])
def test_training_rows_are_standardised_and_test_rows_by_the_same_numbers(task):
    split = load(task, dtype=torch.float64)
    x_ND = split.train.x
    varying = x_ND.std(0) > 0
    torch.testing.assert_close(x_ND.mean(0), torch.zeros(x_ND.shape[1]).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(
        x_ND[:, varying].std(0, correction=0), torch.ones(int(varying.sum())).double()
    )
    assert not torch.allclose(split.test.x.mean(0), torch.zeros(x_ND.shape[1]).double(), atol=1e-6)
    table, rows = TABLES[task], read_rows(task)
    targets = [name for name in rows if name in (table.target, *table.dropped)]
    x, y = (StandardScaler().fit(rows.loc[split.train.index, names].to_numpy())
            for names in (rows.columns.drop(targets), [table.target]))  # fmt: skip
    for data in (split.train, split.test):
        chosen = rows.loc[data.index]
        features = chosen.drop(columns=targets).to_numpy()
        np.testing.assert_allclose(data.x, x.transform(features), atol=1e-9)
        target = chosen[[table.target]].to_numpy()
        target = y.transform(target) if table.regression else target
        np.testing.assert_allclose(data.y, target[:, 0], atol=1e-9)


@pytest.mark.parametrize(
    ("task", "targets"), [("energy", ["Y1", "Y2"]), ("adult", ["salary_<=50K", "salary_>50K"])]
)
def test_the_other_target_of_energy_and_of_adult_is_no_feature(task, targets):
    assert sorted((TABLES[task].target, *TABLES[task].dropped)) == targets
    assert load(task).train.x.shape[1] == read_rows(task).shape[1] - 2


def test_classes_are_whole_numbers_and_regression_targets_are_not():
    assert load("adult").train.y.dtype == torch.int64
    assert load("adult").train.y.float().mean() == pytest.approx(0.2478, abs=2e-3)
    assert load("energy", dtype=torch.float64).train.y.dtype == torch.float64
    assert load("energy").train.y.dtype == torch.float32


@pytest.mark.parametrize("task", ["concrete", "energy", "adult"])
def test_a_hash_tells_data_apart(task, monkeypatch):
    known = load(task).hash
    assert known == load(task).hash
    changed = read_rows(task)
    changed.iloc[3, 0] += 1
    monkeypatch.setattr(tables, "read_rows", lambda _: changed)
    assert load(task).hash != known


def made_up_heloc():
    """Rows with each code once: all −9, never delinquent, no inquiry, missing values."""
    names = ["MSinceMostRecentDelq", "MSinceMostRecentInqexcl7days", "MaxDelq2PublicRecLast12M"]
    values = [[-9, -9, -9, -9], [-7, -7, 9, 4], [12, -8, 3, -8], [80, 24, 7, 2]]
    rows = pd.DataFrame(values, columns=[*names, "NetFractionInstallBurden"])
    return rows.assign(RiskPerformance_Bad=[1, 0, 1, 1])


def test_codes_of_heloc_become_numbers():
    cleaned = clean_heloc(made_up_heloc())
    assert cleaned.index.tolist() == [1, 2, 3]
    assert cleaned["MSinceMostRecentDelq"].tolist() == [81, 12, 80]
    assert cleaned["MSinceMostRecentInqexcl7days"].tolist() == [0, 25, 24]
    assert cleaned["MaxDelq2PublicRecLast12M"].tolist() == [7, 3, 7]
    assert cleaned["NetFractionInstallBurden"].tolist() == [4, -8, 2]
    assert cleaned["Good"].tolist() == [1, 0, 0]


def test_ficos_words_are_read_as_the_numbers():
    rows = made_up_heloc()
    words = rows["RiskPerformance_Bad"].map({0: "Good", 1: "Bad"})
    in_words = rows.drop(columns="RiskPerformance_Bad").assign(RiskPerformance=words)
    pd.testing.assert_frame_equal(clean_heloc(in_words), clean_heloc(rows))


def test_missing_values_become_the_mean_of_the_training_rows():
    values = np.array([[1.0], [-8.0], [3.0], [100.0], [-9.0]])
    mended = filled(values, np.array([0, 1, 2]))
    np.testing.assert_array_equal(mended[:, 0], [1, 2, 3, 100, 2])


def test_heloc_has_the_papers_rows_and_label_mean(root):
    file = whole_data("heloc/heloc.csv")
    assert _prepare("--source", file) == 0
    rows, split = read_rows("heloc"), load("heloc")
    assert len(rows) == 9871
    assert round(rows["Good"].mean(), 5) == 0.47969
    assert split.train.x.shape == (8883, 23)
    assert len(split.test) == 988
    assert split.train.x.isfinite().all()
    assert (root / "data" / "heloc" / "rows.csv").read_bytes() == file.read_bytes()


@pytest.mark.usefixtures("root")
def test_a_missing_file_names_the_command_that_makes_it():
    with pytest.raises(UserError, match=r"prepare.py --task heloc --source FILE"):
        load("heloc")


def test_a_foreign_or_truncated_file_is_refused_and_not_copied(root, tmp_path, capsys):
    foreign = tmp_path / "foreign.csv"
    made_up_heloc().to_csv(foreign, index=False)
    assert _prepare("--source", foreign) == 2
    assert "3 usable rows" in capsys.readouterr().err
    foreign.write_text("a,b\n1,2\n")
    assert _prepare("--source", foreign) == 2
    assert "has no rows of task heloc" in capsys.readouterr().err
    assert not (root / "data").exists()


def test_a_damaged_file_names_the_command_that_restores_it(root):
    folder = root / "data" / "energy"
    shutil.copytree(paths.REPOSITORY / "data" / "energy", folder)
    file = folder / "rows.csv"
    file.write_text("\n".join(file.read_text().splitlines()[:100]))
    with pytest.raises(UserError, match=r"99 usable rows .*`git checkout data/energy/rows.csv"):
        load("energy")


def test_an_unknown_task_names_those_that_exist():
    with pytest.raises(UserError, match="concrete, energy, heloc, adult, folktables"):
        load("boston")


def test_the_perceptron_has_the_papers_layers():
    network = mlp(8, 1)
    assert [tuple(p.shape) for p in network.parameters()] == [
        (128, 8), (128,), (128, 128), (128,), (1, 128), (1,),
    ]  # fmt: skip
    assert isinstance(network[-1], torch.nn.Linear)
    assert mlp(23, 2, width=4, depth=1)(torch.zeros(3, 23)).shape == (3, 2)


@pytest.fixture
def few_persons(monkeypatch):
    """Folktables with 24 persons: a census file has more columns and persons than are used."""
    table = replace(TABLES["folktables"], num_rows=20, num_test=5)
    monkeypatch.setitem(TABLES, "folktables", table)
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({name: 1.0 * rng.integers(1, 9, 24) for name in ACS_INCOME})
    rows = rows.assign(AGEP=30.0, PINCP=4e4, WKHP=40.0, PWGTP=50.0, SERIALNO="2018")
    rows.loc[:3, ["AGEP", "PINCP", "WKHP", "PWGTP"]] = [
        [16, 9e4, 40, 50], [30, 100, 40, 50], [30, 9e4, np.nan, 50], [30, 9e4, 40, 0]
    ]  # fmt: skip
    rows.loc[10:14, "PINCP"] = 50_001
    return rows


def test_persons_of_a_census_file_are_those_that_folktables_asks(few_persons, root, tmp_path):
    file = tmp_path / "psam_p25.csv"
    few_persons.to_csv(file, index=False)
    assert _prepare("--source", file, task="folktables") == 0
    assert list(pd.read_csv(root / "data" / "folktables" / "rows.csv")) == list(ACS_COLUMNS)
    split = load("folktables")
    rows = read_rows("folktables")
    assert list(rows) == [*ACS_INCOME, "high_income"]
    assert rows.index.tolist() == list(range(4, 24))
    assert rows.index[rows["high_income"] == 1].tolist() == [10, 11, 12, 13, 14]
    assert (len(split.train), len(split.test), split.train.y.dtype) == (15, 5, torch.int64)


@pytest.mark.usefixtures("root")
def test_the_package_folktables_is_asked_for_the_same_persons(few_persons, monkeypatch):
    asked = {}

    class Source:
        def __init__(self, **how):
            asked.update(how)

        def get_data(self, **which):
            asked.update(which)
            return few_persons

    monkeypatch.setitem(sys.modules, "folktables", SimpleNamespace(ACSDataSource=Source))
    assert _prepare("--source", "folktables", task="folktables") == 0
    assert len(read_rows("folktables")) == 20
    assert (asked["states"], asked["survey_year"], asked["survey"]) == (["MA"], "2018", "person")


@pytest.mark.usefixtures("root")
def test_without_package_or_network_the_error_names_the_file_that_will_do(monkeypatch, capsys):
    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setitem(sys.modules, "folktables", None)
    assert _prepare("--source", "folktables", task="folktables") == 2
    assert "pip install folktables" in capsys.readouterr().err
    source = SimpleNamespace(get_data=offline)
    package = SimpleNamespace(ACSDataSource=lambda **_: source)
    monkeypatch.setitem(sys.modules, "folktables", package)
    assert _prepare("--source", "folktables", task="folktables") == 2
    error = capsys.readouterr().err
    assert "no route to host" in error and "--task folktables --source FILE" in error


@pytest.mark.usefixtures("root")
def test_a_census_file_of_other_persons_is_refused(few_persons, tmp_path, capsys):
    file = tmp_path / "psam_p25.csv"
    few_persons.iloc[:-1].to_csv(file, index=False)
    assert _prepare("--source", file, task="folktables") == 2
    assert "19 usable rows" in capsys.readouterr().err
    few_persons.drop(columns="OCCP").to_csv(file, index=False)
    assert _prepare("--source", file, task="folktables") == 2
    assert "has no rows of task folktables" in capsys.readouterr().err


def test_the_first_examples_of_a_split_are_standardised_as_the_whole():
    whole = load("concrete")
    first = whole.first(10, 4)
    torch.testing.assert_close(first.train.x, whole.train.x[:10])
    assert (len(first.train), len(first.test)) == (10, 4)
    assert first.hash != whole.hash == whole.first(None, None).hash


def _prepare(*flags, task="heloc"):
    script = str(paths.REPOSITORY / "data" / "prepare.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, "--task", task, *map(str, flags)])
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as stopped:
            return stopped.code
    return 0
