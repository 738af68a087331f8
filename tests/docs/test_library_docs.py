"""docs/library.md runs as written."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from bayestda.experiments.networks.pretrained import transformers
from bayestda.scores.estimators import METHODS

PAGE = Path(__file__).parents[2] / "docs" / "library.md"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """What the page's names are after all of its code."""
    transformers()  # without a GPU, torchvision has to be mended before anything imports it
    folder = tmp_path_factory.mktemp("page")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    snapshots = []
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), names)
            snapshots.append(dict(names))
    return folder, snapshots


def test_the_worked_example_has_the_numbers_of_the_text(page):
    _, snapshots = page
    np.testing.assert_allclose(snapshots[0]["scores"].values.ravel(), [-4, 4], rtol=1e-5)


def test_the_quickstart_writes_its_figure_and_its_tables(page):
    folder, snapshots = page
    assert (folder / "scores.png").stat().st_size > 10_000
    assert snapshots[1]["pairs"].sizes == {"train": 60, "test": 40}
    table = snapshots[2]["table"].set_index(["method", "metric", "scope"])["value"]
    assert table["influence", "pearson", "all_pairs"] > 0.3


def test_an_objective_with_its_own_curvature_scores_as_its_loss_does(page):
    _, snapshots = page
    found = snapshots[-1]
    np.testing.assert_allclose(found["poisson"].values, found["same"].values, rtol=1e-3, atol=1e-5)


GIVEN = {"gradients", "posterior", "objective", "train", "test"}  # by the library, or to all


def test_the_table_has_every_setting_of_every_method_with_its_default():
    section = PAGE.read_text().split("## Settings of every method")[1].split("\n## ")[0]
    found, method = {}, ""
    for line in section.splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if len(cells) != 4 or cells[0] in ("method", "---"):
            continue
        method = cells[0] or method
        found.setdefault(method, {})
        if cells[1]:
            assert cells[3], line
            found[method][cells[1]] = cells[2]
    wanted = {}
    for name, estimator in METHODS.items():
        function = getattr(estimator.function, "blocks", estimator.function)
        wanted[name] = {
            setting: "needed" if known.default is known.empty else repr(known.default)
            for setting, known in inspect.signature(function).parameters.items()
            if setting not in GIVEN
        }
    assert found == wanted


def test_every_kind_of_model_gets_scores(page):
    _, snapshots = page
    sizes = [dict(snapshot["scores"].sizes) for snapshot in snapshots[-4:-1]]
    assert [(size["train"], size["test"]) for size in sizes] == [(32, 32), (200, 20), (16, 8)]
    assert all(np.isfinite(snapshot["scores"]).all() for snapshot in snapshots)


def test_streamed_scores_are_read_from_their_file(page):
    _, snapshots = page
    assert snapshots[-1]["summed"].sizes["group"] == 4
    assert np.isfinite(snapshots[-1]["summed"]).all()
