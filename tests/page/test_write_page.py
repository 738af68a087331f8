"""A page of anyone's scores: what goes in is on it, and what does not fit is one sentence."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from html_pages import assert_self_contained
from planted_arrays import planted_images, planted_probabilities, planted_scores

import bayestda as tda
from bayestda.page.pictures import LARGEST_SIDE, as_pixels
from bayestda.plots import style

IMAGES = planted_images(20), planted_images(12)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new folder" / "digits.html"


def written(path, *arguments, **settings):
    """The text of the page, and what it consists of."""
    assert tda.write_page(path, *arguments, **settings) == path
    text = path.read_text()
    return text, assert_self_contained(text)


def paragraphs(text):
    """What a page says outside of its script."""
    return text[: text.index("<script")]


def test_it_shows_scores_images_and_predictions(path):
    scores = planted_scores()
    text, found = written(path, scores, *IMAGES, planted_probabilities(), title="My digits")
    described = found.description
    assert described["kind"] == "image" and "<h1>My digits</h1>" in text
    assert [one["label"] for one in described["methods"]] == [*map(style.label, scores)]
    assert [one["colour"] for one in described["methods"]] == [
        style.colour(name).lower() for name in scores
    ]
    assert described["train"]["index"] == scores["loo"]["train"].values.tolist()
    assert described["train"]["label"] == [str(n % 3) for n in range(20)]
    assert described["predictions"]["right"] == [place % 3 != 2 for place in range(12)]
    assert "digits · made by <code>bayestda" in text


def test_a_dataset_is_the_same_as_a_dict_and_an_array_is_one_method(path):
    scores = planted_scores()
    text, _ = written(path, scores)
    assert written(path, xr.Dataset(scores))[0] == text
    _, found = written(path, scores["loo"])
    assert [one["name"] for one in found.description["methods"]] == ["loo"]


def test_what_attribute_returns_is_shown_as_it_is(path):
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    train, test = (x[:8], (x[:8, 0] > 0).long()), (x[8:], (x[8:, 0] > 0).long())
    recipe = tda.Recipe(epochs=2, keep=2)
    objective = tda.Classification()
    posterior = tda.train_posterior(
        lambda: torch.nn.Linear(3, 2), objective, train, recipe, seeds=[1, 2, 3]
    )
    scores = {
        name: tda.attribute(posterior, objective, train, test, method=name)
        for name in ("grad_dot", "tracin")
    }
    _, found = written(path, scores, train[0], test[0], classes=["left", "right"])
    described = found.description
    assert [one["checkpoint"] for one in described["methods"]] == ["checkpoint", "score"]
    assert described["train"]["columns"] == ["x0", "x1", "x2"]
    assert set(described["train"]["label"]) <= {"left", "right"}


def test_one_trained_model_has_lists_and_says_what_one_run_cannot(path):
    text, found = written(path, planted_scores(["loo"], seeds=1)["loo"], *IMAGES)
    assert "one run cannot tell signal from noise" in text and "a few more seeds" in text
    assert "Reliability" not in paragraphs(text) and "p-value" not in text[: text.index("<h2 id=")]
    assert found.description["methods"][0]["seeds"] == ["1"]


def test_where_no_pair_is_reliable_the_page_says_what_next(path):
    pure_noise, weak = planted_scores(seeds=4, effect=0.0), planted_scores(seeds=2)
    text, _ = written(path, pure_noise)
    assert "No single pair passes at a false discovery rate of 5 %" in text
    assert "means over large groups of examples are the most" in text
    text, _ = written(path, weak)
    assert "LOO has 2 seeds" in text and "use the map as a whole" in text
    text, _ = written(path, planted_scores(seeds=12))
    assert "Pairs with q below .05 can be read one by one" in text
    text, _ = written(path, {"loo": planted_scores(seeds=12)["loo"], "ats": pure_noise["loo"]})
    assert "No single pair of ATS passes" in text and "LOO has" not in text


def test_the_table_has_the_numbers_of_the_statistics(path):
    scores = planted_scores(["loo"])["loo"]
    _, found = written(path, scores)
    pairs = tda.reliability(scores)
    cells = [cell.strip() for cell in found.cells]
    at = cells.index("LOO")
    assert cells[at + 2] == f"{float((pairs.p < 0.05).mean()):.0%}"
    assert cells[at + 3] == f"{float((pairs.q < 0.05).mean()):.0%}"
    assert cells[at + 5] == f"{float(pairs.seeds_needed.median()):,.0f}"


def test_texts_and_names_alone_are_shown(path):
    scores = planted_scores(["loo"])["loo"].drop_vars(["train_label", "test_label"])
    hostile = '</script><script>alert(1)</script><img src="x" onerror="alert(2)">'
    texts = [hostile, *(f"text {n}" for n in range(19))], [f"query {n}" for n in range(12)]
    described = written(path, scores, *texts)[1].description
    assert described["kind"] == "text" and described["train"]["texts"] == texts[0]
    named = scores.assign_coords(train=[f"{n}.png" for n in range(20)])
    described = written(path, named)[1].description
    assert described["kind"] == "example" and described["train"]["index"][3] == "3.png"
    assert described["test"]["label"] == [""] * 12


def test_rows_keep_the_names_of_their_columns_and_their_words(path):
    train = pd.DataFrame({"age": range(20), "town": ["Rome", "Oslo"] * 10})
    described = written(path, planted_scores(["loo"]), train, train[:12], np.ones(12))[
        1
    ].description
    assert described["train"]["columns"] == ["age", "town"]
    assert described["train"]["rows"][3] == ["3", "Oslo"]
    assert described["predictions"]["said"][0] == "1" and described["predictions"]["right"] is None


@pytest.mark.parametrize("form", ["channels last", "channels first", "float", "grey", "list"])
def test_images_of_every_form_have_the_same_pixels(form):
    pixels = planted_images(5, channels=3) if form != "grey" else planted_images(5)
    given = {
        "channels last": pixels,
        "channels first": np.moveaxis(pixels, -1, 1),
        "float": (pixels / 255).astype(np.float32),
        "grey": pixels[:, None],
        "list": np.stack(list(pixels)).astype(np.int64),
    }[form]
    np.testing.assert_array_equal(as_pixels(given, "train_examples"), pixels)


def test_of_large_images_and_many_the_page_has_what_fits(path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 3000, 12))
    scores = xr.DataArray(values, dims=("seed", "train", "test"), name="mine")
    train = rng.integers(0, 255, (3000, 20, 30, 3)).astype(np.uint8)
    test = planted_images(12, (300, 200), channels=3)
    _, found = written(path, scores, train, test, max_mb=1)
    described = found.description
    assert described["test"]["size"] == [LARGEST_SIDE, round(200 * LARGEST_SIDE / 300)]
    kept = described["train"]["index"]
    assert described["all_train"] == 3000 > len(kept) > 100
    assert len(described["train"]["label"]) == len(kept)
    best = np.abs(values.mean(0)).argmax(0)[: len(described["test"]["index"])]
    assert set(best.tolist()) <= set(kept)
    assert path.stat().st_size < 1.2e6 + len(paragraphs(path.read_text()))


def test_settings_are_told_and_versions_of_packages_are_not(path):
    scores = LOO.rename("influence").assign_attrs(damping="0.1", version_torch="2", sign="x")
    (method,) = written(path, scores)[1].description["methods"]
    assert method["note"].endswith("gradient. damping = 0.1.") and "2" not in method["note"]


def test_methods_may_have_their_examples_in_another_order(path):
    scores = planted_scores()
    shuffled = scores | {"influence": scores["influence"].isel(train=slice(None, None, -1))}
    assert written(path, shuffled)[0] == written(path, scores)[0]


LOO = planted_scores(["loo"])["loo"]
BAD = [
    (LOO.values, {}, "scores must be an xarray.DataArray, or a dict or Dataset of several"),
    ({}, {}, "scores must be an xarray.DataArray, or a dict"),
    (LOO.mean("seed"), {}, "scores of loo need the dims .* add 'seed' with"),
    (LOO.expand_dims(damping=[1, 2]), {}, "have the dim 'damping' beyond"),
    (LOO * np.nan, {}, "values of scores of loo are not finite"),
    ({"a": LOO, "b": LOO[:, :, 1:]}, {}, "scores of b are of other train examples than those"),
    (LOO.assign_coords(train=[0] * 20), {}, "two train examples of one name"),
    (LOO, {"train_examples": IMAGES[1]}, "train_examples has 12 examples, but the scores are of"),
    (LOO, {"train_examples": IMAGES[0] / 99}, "hold numbers from 0 to .* undo their normal"),
    (LOO, {"train_examples": np.zeros((20, 8, 8, 5))}, "no images with 1 or 3 channels"),
    (LOO, {"train_examples": [np.zeros((3, n + 1)) for n in range(20)]}, "different shapes"),
    (LOO, {"train_examples": torch.ones(20, 3, dtype=torch.bfloat16)}, "with .float"),
    (LOO, {"train_examples": [{}] * 20}, "of shape .* cannot be shown: give images"),
    (LOO, {"train_examples": IMAGES[0], "test_examples": ["a"] * 12}, "images and .* texts"),
    (LOO, {"train_examples": np.zeros((20, 2)), "test_examples": np.zeros((12, 3))}, "columns"),
    (LOO, {"predictions": np.zeros(5)}, "there are 12 test examples: give labels or numbers"),
    (LOO, {"predictions": np.full((12, 3), 0.5)}, "must be probabilities, but rows sum to 1.5"),
    (LOO, {"predictions": np.full((12, 2), 0.5)}, "but there is the label '2'"),
    (LOO, {"classes": ["a", "b"]}, "classes has 2 names, but there is the label '2'"),
    (LOO, {"max_mb": 0}, "max_mb=0 leaves no room"),
]  # fmt: skip


@pytest.mark.parametrize(("scores", "settings", "message"), BAD, ids=[one[-1] for one in BAD])
def test_what_does_not_fit_is_one_sentence(path, scores, settings, message):
    with pytest.raises(tda.UserError, match=message) as raised:
        tda.write_page(path, scores, **settings)
    assert "\n" not in str(raised.value) and not path.exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(tda.UserError, match="cannot write"):
        tda.write_page(tmp_path / "file" / "page.html", LOO)
