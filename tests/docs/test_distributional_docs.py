"""docs/distributional.md runs as written, and says what is so."""

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "distributional.md"


@pytest.fixture(scope="module")
def names():
    """What the page's names are after all of its code."""
    found: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), found)
    return found


def test_predictions_of_the_page_come_closer_to_retraining_than_no_prediction(names):
    errors = names["found"].errors
    assert errors["w2_predicted"].mean() < 0.7 * errors["w2_before"].mean()
    assert np.corrcoef(errors["mean_change"], errors["mean_predicted"])[0, 1] > 0.9
    assert (names["found"].lds.set_index("difference")["value"] > 0.5)["mean"]


def test_shifts_of_the_page_agree_with_each_other(names):
    pair = names["quick"].values.ravel(), names["shifts"].values.ravel()
    assert np.corrcoef(*pair)[0, 1] > 0.7
    assert names["of_the_loss"].sizes == names["shifts"].sizes


def test_what_the_page_says_is_refused_is(names):
    with pytest.raises(names["tda"].errors.UserError, match="gradients are normalised"):
        scores = names["scores"].assign_attrs(method="grad_cos")
        names["tda"].as_shifts(scores)


def test_the_page_chooses_one_example_of_every_query_also_where_two_are_first(names):
    (line,) = (line for line in PAGE.read_text().split("\n") if line.startswith("chosen = "))
    tied = names["spread"].assign(rank=1.5)
    for spread in (names["spread"], tied):
        found = dict(names) | {"spread": spread}
        exec(line, found)
        assert sorted(found["chosen"]["test"]) == list(range(6))
