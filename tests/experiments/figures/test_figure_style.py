"""What all figures share: names, numbers in print, colours, and saving."""

import numpy as np
import pytest
from matplotlib import rcParams
from PIL import Image

from bayestda.errors import UserError
from bayestda.experiments.figures import histograms, names
from bayestda.experiments.grid import METHODS
from bayestda.plots import style


@pytest.mark.parametrize(
    ("mean", "error", "text"),
    [
        (0.0123456, 0.00123, "+0.012 ± 0.001"),
        (-3.21e-5, 4.4e-6, "(−3.21 ± 0.44)e−5"),
        (0.0, 0.0, "+0.00 ± 0.00"),
        (np.nan, 0.1, "n/a"),
        (-1e-9, 0.3, "+0.00 ± 0.30"),
    ],
)
def test_measurement_has_the_digits_of_its_error(mean, error, text):
    assert style.measurement(mean, error) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(4.2e-6, "p = 4e−06"), (0.042, "p = .042"), (0.999, "p > .99"), (np.nan, "p n/a")],
)
def test_probability_reads_as_in_print(value, text):
    assert style.probability("p", value) == text


def test_methods_have_different_colours_and_variants_share_their_methods():
    assert len({style.colour(method) for method in METHODS}) == len(METHODS)
    assert style.colour("influence_lissa") == style.colour("influence")
    assert style.label("loo_published") == "LOO (published)"
    assert names.ordered(["grad_cos", "mine", "loo_published", "loo"]) == [
        "loo",
        "loo_published",
        "grad_cos",
        "mine",
    ]


def test_saved_figure_is_a_readable_png_of_150_dpi_and_global_settings_stay(pairs_of, tmp_path):
    before = dict(rcParams)
    figure = histograms.p_value_histograms({"one": pairs_of([[0.1, 0.5]])}, "heading")
    width, height = figure.get_size_inches()
    path = style.save(tmp_path / "new" / "figure.png", figure)
    with Image.open(path) as image:
        image.load()
        assert image.size == (round(width * 150), round(height * 150))
    assert list(path.parent.iterdir()) == [path]
    assert dict(rcParams) == before


def test_a_figure_that_cannot_be_written_is_one_sentence(pairs_of, tmp_path):
    (tmp_path / "file").touch()
    figure = histograms.p_value_histograms({"one": pairs_of([[0.1, 0.5]])}, "heading")
    with pytest.raises(UserError, match="cannot write"):
        style.save(tmp_path / "file" / "figure.png", figure)
