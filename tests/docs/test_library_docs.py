"""docs/library.md runs as written."""

import re
from pathlib import Path

import numpy as np
import pytest

from bayestda.experiments.networks.pretrained import transformers

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


def test_every_kind_of_model_gets_scores(page):
    _, snapshots = page
    sizes = [dict(snapshot["scores"].sizes) for snapshot in snapshots[-4:-1]]
    assert [(size["train"], size["test"]) for size in sizes] == [(32, 32), (200, 20), (16, 8)]
    assert all(np.isfinite(snapshot["scores"]).all() for snapshot in snapshots)


def test_streamed_scores_are_read_from_their_file(page):
    _, snapshots = page
    assert snapshots[-1]["summed"].sizes["group"] == 4
    assert np.isfinite(snapshots[-1]["summed"]).all()
