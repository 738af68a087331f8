"""The page of an experiment: its numbers are those of the tables, and it loads nothing."""

import runpy
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from html_pages import Page, assert_self_contained
from planted_final import LEFT_OUT, TESTS, energy_numbers, write_final
from planted_scores import write_scores

from bayestda.errors import UserError
from bayestda.experiments import paths, results
from bayestda.experiments.data.subsets import read_images
from bayestda.experiments.grid import Experiment
from bayestda.experiments.pages import final, images
from bayestda.experiments.pages.words import CLASSES
from bayestda.page import rendering
from bayestda.page.model import Texts

SMALL = Experiment("cnn2", "mnist3", 10)
COLOUR = Experiment("cnn2", "cifar10", 10)
TABLES = ("p_values", "correlations", "variance", "reliability")


def script(name, *arguments):
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
        write_scores(COLOUR, methods=("loo", "grad_dot"), num_runs=3)
        for table in TABLES:
            script(table, "--experiment", SMALL.name)
        yield folder


@pytest.fixture(scope="module")
def small(root):
    script("report", "--experiment", SMALL.name)
    return (root / "results" / SMALL.name / "report.html").read_text()


def test_it_is_one_file_that_loads_nothing_and_runs_its_own_script_only(small):
    found = assert_self_contained(small)
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_numbers_of_its_tables_are_those_of_the_files(small):
    cells = [cell.strip().replace("\N{MINUS SIGN}", "-") for cell in Page(small).cells]
    for name in TABLES:
        table = pd.read_csv(paths.table(SMALL.name, name)).head(400)
        for value in table.select_dtypes("float").to_numpy().ravel():
            assert not np.isfinite(value) or f"{value:.4g}" in cells, (name, value)


def test_correlations_are_those_of_the_table(small):
    table = pd.read_csv(paths.table(SMALL.name, "correlations"))
    row = table.query(
        "method_a == 'loo' and method_b == 'ats' and statistic == 'mean' and kind == 'pearson' "
        "and scope == 'all_pairs'"
    ).iloc[0]
    assert row["value"] > 0
    shown = f"{row['value']:.2f} <small>{row['low']:.2f} to {row['high']:.2f}</small>"
    assert shown in small


def test_the_summary_is_shown_where_it_has_been_made(small):
    assert 'id="summary"' not in small
    lines = (
        "| method | mean p | p < .05 |",
        "| --- | --- | --- |",
        "| loo | .14 (.09 to .19) | 66% |",
    )
    path = paths.results(SMALL.name) / "summary.md"
    path.write_text("\n".join(("head", "", *lines)))
    shown = rendering.render(images.report_of(SMALL))
    path.unlink()
    assert "<td>.14 <small>.09 to .19</small></td>" in shown and "<td>66%</td>" in shown


def test_what_is_missing_is_said_with_its_command(small, root):
    assert "Predictions of two runs: python train_cnn.py --task mnist3 --num_per_class 10" in small
    assert f"python analysis/damping.py --experiment {SMALL.name}" in small
    script("report", "--experiment", COLOUR.name)
    colour = (root / "results" / COLOUR.name / "report.html").read_text()
    found = assert_self_contained(colour)
    assert [one["name"] for one in found.description["methods"]] == ["loo", "grad_dot"]
    assert "IF has scores of 0 runs, two are needed: python tda_cnn_scripts/influence.py" in colour
    assert found.description["test"]["sprite"].startswith("data:image/webp;base64,")
    assert str(root) not in colour and str(paths.REPOSITORY) not in colour


def test_the_same_results_give_the_same_page(small):
    assert rendering.render(images.report_of(SMALL)) == small


def test_all_scores_are_positive_where_an_example_helps():
    methods = images.report_of(SMALL).methods
    planted = {name: method.scores.mean(("seed", "checkpoint")) for name, method in methods.items()}
    for name, mean in planted.items():
        assert np.corrcoef(mean.values.ravel(), planted["loo"].values.ravel())[0, 1] > 0.5, name


def test_less_room_leaves_out_samples_then_test_images(small):
    whole, report = Page(small), images.report_of(SMALL)
    for max_mb, num_tests in ((0.03, 12), (0.012, range(1, 12))):
        shown = Page(rendering.render(report, max_mb))
        assert whole.description["all_tests"] == shown.description["all_tests"] == 12
        assert len(shown.blocks["samples-loo"]) < len(whole.blocks["samples-loo"])
        if num_tests == 12:
            assert len(shown.description["test"]["index"]) == 12
            assert shown.description["sampled"] < 20 == whole.description["sampled"]
        else:
            assert len(shown.description["test"]["index"]) in num_tests


def test_bad_input_is_one_sentence(capsys):
    for arguments, message in (
        (("--experiment", "nonsense"), "'nonsense' is no experiment"),
        (("--experiment", "cnn3_mnist3_10pc"), "has no scores"),
        (("--experiment", "fimo_energy"), "fimo_energy has no further training yet: run `python"),
        (("--experiment", "fimo_../energy"), "'fimo_../energy' is no experiment"),
        (("--max_mb", "0"), "--max_mb 0 leaves no room"),
    ):
        with pytest.raises(SystemExit) as stopped:
            script("report", *arguments)
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err


def test_methods_of_different_images_are_refused():
    report = images.report_of(COLOUR)
    short = report.methods["loo"].scores.isel(train=slice(1, None))
    methods = report.methods | {"loo": replace(report.methods["loo"], scores=short)}
    with pytest.raises(UserError, match="loo in cnn2_cifar10_10pc are of other train examples"):
        replace(report, methods=methods)


def test_images_with_other_labels_than_the_scores_are_refused():
    scores = results.read_scores(SMALL, "loo")
    other = scores.assign_coords(train_label=("train", scores["train_label"].values[::-1]))
    with pytest.raises(UserError, match="train.parquet has other labels than the scores"):
        images.examples(SMALL, "train", other)


# ---- final-model-only attribution ---------------------------------------------------------------


@pytest.fixture
def energy():
    rows, left_out, test, _ = energy_numbers()
    return rows, write_final("energy", (0, 1), (0, 1, 2), (left_out, test), np.zeros((TESTS, 1)))


def test_rows_are_in_readable_units_and_predictions_too(energy, root):
    rows, _ = energy
    script("report", "--experiment", "fimo_energy")
    found = assert_self_contained((root / "results" / "fimo_energy" / "report.html").read_text())
    _, left_out, _, train = energy_numbers()
    first = rows.loc[left_out[0]]
    description = found.description
    assert description["kind"] == "row"
    assert description["train"]["columns"][:2] == ["relative compactness", "surface area, m²"]
    assert description["train"]["rows"][0][:2] == [f"{first['X1']:g}", f"{first['X2']:g}"]
    assert description["train"]["label"][0] == f"{first['Y1']:g} kWh/m²"
    mean = rows["Y1"].to_numpy()[train].mean()  # of standardised targets: an output of 0
    assert description["predictions"]["said"][0].startswith(f"{mean:.4g} kWh/m²")


def test_several_final_models_are_the_runs_and_orders_are_averaged(energy):
    _, effect = energy
    report = final.report_of("fimo_energy")
    gold, influence = report.methods["further_sgd"], report.methods["influence"]
    assert (gold.seed, gold.scores.sizes["seed"], gold.scores.sizes["checkpoint"]) == (
        "final model", 2, 3,
    )  # fmt: skip
    np.testing.assert_allclose(gold.scores.mean(("seed", "checkpoint")), effect, atol=0.3)
    np.testing.assert_allclose(influence.scores.isel(seed=0, checkpoint=0), effect)  # λ = 0.1
    assert "λ = 0.1" in influence.label


def test_of_one_final_model_the_orders_are_the_runs():
    scores = xr.DataArray(
        np.arange(24.0).reshape(1, 3, 2, 4), dims=("train_seed", "seed", "left_out", "test")
    )
    found, seed, checkpoint = final.by_run(scores)
    assert (dict(found.sizes), seed, checkpoint) == (
        {"seed": 3, "checkpoint": 1, "train": 2, "test": 4}, "order", "final model",
    )  # fmt: skip
    np.testing.assert_array_equal(found[:, 0], scores[0])


def test_images_of_a_final_model_are_those_of_its_files():
    found = {split: read_images(paths.images("cifar10", split)) for split in ("train", "test")}
    numbers = found["train"].index[3 : 3 + LEFT_OUT], found["test"].index[:TESTS]
    write_final("cifar10_reduced", (0,), (0, 1), numbers, np.eye(10)[:TESTS])
    report = final.report_of("fimo_cifar10_reduced")
    np.testing.assert_array_equal(report.train.content.pixels, found["train"].pixels[3:9])
    expected = [CLASSES["cifar10"][label] for label in found["test"].label[:TESTS]]
    assert report.test.label == expected and report.kind == "image"


def test_what_is_not_a_number_is_named_and_not_shown():
    _, left_out, test, _ = energy_numbers()
    write_final("energy", (0,), (0, 1), (left_out, test), np.zeros((TESTS, 1)))
    for path, variable in (
        (paths.approximation("fimo_energy", "influence", "0"), "score"),
        (paths.further("fimo_energy", "sgd", "0x1"), "loss"),
    ):
        broken = results.open_scores(path, "x")
        broken[variable][..., -1, 0] = np.nan
        flags = broken.attrs.get("flags", "")
        results.write_scores(path, broken.drop_attrs(), {}, flags=flags)
        if variable == "score":
            report = final.report_of("fimo_energy")
            assert list(report.methods) == ["further_sgd"]
            assert "exact GN, λ = 0.1: its scores are not all finite numbers" in report.missing
    with pytest.raises(UserError, match="scores of sgd are not all finite"):
        final.report_of("fimo_energy")


def test_sentences_cannot_leave_their_place_in_the_page(root):
    hostile = '</script><script>alert(1)</script><img src="x" onerror="alert(2)">'
    for split, count in (("train", LEFT_OUT), ("validation", TESTS)):
        file = paths.root() / "data" / "sst2" / f"{split}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        label = np.arange(count) % 2
        texts = [hostile, *(f"sentence {number}" for number in range(1, count))]
        pd.DataFrame({"sentence": texts, "label": label}).to_parquet(file)
    numbers = np.arange(LEFT_OUT), np.arange(TESTS)
    write_final("sst2_reduced", (0,), (0, 1), numbers, np.tile([0.0, 2.0], (TESTS, 1)))
    script("report", "--experiment", "fimo_sst2_reduced")
    text = (root / "results" / "fimo_sst2_reduced" / "report.html").read_text()
    found = assert_self_contained(text)
    assert found.description["train"]["texts"][0] == hostile
    assert found.description["predictions"]["right"] == [False, True, False, True]
    assert isinstance(final.report_of("fimo_sst2_reduced").train.content, Texts)
    assert "There is one final model" in text
