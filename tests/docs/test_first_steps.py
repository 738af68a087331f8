"""docs/first_steps.md runs as written, and finds what it says."""

import re

import numpy as np
import pytest

from bayestda.experiments import paths

PAGE = paths.REPOSITORY / "docs" / "first_steps.md"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page's names after all of its code, and the folder that it ran in."""
    names: dict = {}
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
            exec(compile(block, str(PAGE), "exec"), names)
    return names, folder


def test_scores_have_the_sizes_of_the_page(page):
    names, _ = page
    assert dict(names["scores"].sizes) == {"seed": 10, "checkpoint": 3, "train": 60, "test": 40}
    assert dict(names["scores_of_mine"].sizes)["seed"] == 3


def test_the_image_with_the_wrong_label_harms_most(page):
    names, _ = page
    assert names["worst"] == 5
    assert int(names["loo"].mean(["seed", "checkpoint", "test"]).argmin("train")) == 5


def test_influence_predicts_retraining_and_further_training(page):
    names, _ = page
    table = names["table"].set_index(["method", "metric", "scope"])["value"]
    assert table["influence", "pearson", "all_pairs"] > table["grad_dot", "pearson", "all_pairs"]
    pair = (names[name].mean("seed").values.ravel() for name in ("guess", "truth"))
    assert np.corrcoef(*pair)[0, 1] > 0.5


def test_figures_are_written(page):
    _, folder = page
    assert {path.name for path in folder.glob("*.png")} == {
        "test_image_0.png",
        "most_and_least_reliable.png",
        "against_retraining.png",
    }


def test_one_run_is_refused_with_the_reason(page):
    names, _ = page
    with pytest.raises(names["tda"].UserError, match="at least 2 are needed"):
        names["tda"].reliability(names["guess"])
