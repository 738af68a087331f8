"""Tables of the page: heat maps are legible, and of the scores."""

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from scipy import stats

from bayestda.page import tables
from bayestda.page.tables import heat


def contrast(one, other):
    """Contrast of two colours (WCAG 2.2): from 1 to 21."""

    def luminance(colour):
        share_3 = np.array(mpl.colors.to_rgb(colour))
        linear = np.where(share_3 <= 0.04045, share_3 / 12.92, ((share_3 + 0.055) / 1.055) ** 2.4)
        return linear @ (0.2126, 0.7152, 0.0722)

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_numbers_are_legible_on_the_whole_scale_of_a_heat_map():
    cells = [heat(value, "x") for value in np.linspace(-1, 1, 501)]
    assert min(contrast(cell.ink, cell.background) for cell in cells) >= 4.5


def number(cell):
    return float(cell.text.replace("\N{MINUS SIGN}", "-"))


def test_correlations_of_methods_are_those_of_scipy():
    maps = np.random.default_rng(0).normal(size=(2, 3, 2, 6, 5))
    dims = ("seed", "checkpoint", "train", "test")
    scores = {name: xr.DataArray(own, dims=dims) for name, own in zip("ab", maps, strict=True)}
    a, b = (own.mean((0, 1)).ravel() for own in maps)
    for kind, expected in (("pearson", stats.pearsonr(a, b)), ("spearman", stats.spearmanr(a, b))):
        table = tables.correlations(scores, kind)
        assert number(table.rows[0][2]) == pytest.approx(expected.statistic, abs=0.0051)
        assert number(table.rows[0][1]) == 1 and table.columns == ["", "a", "b"]


def test_means_by_label_are_in_units_of_the_largest():
    values_NM = np.array([[4.0, 0], [2, 0], [-1, 1]])
    coords = {"train_label": ("train", [0, 0, 7]), "test_label": ("test", [0, 7])}
    scores = xr.DataArray(values_NM[None], coords, ("seed", "train", "test"))
    table = tables.by_label("a", scores, lambda label: f"class {label}")
    assert table.columns == ["", "test class 0", "test class 7"]
    assert [row[0].text for row in table.rows] == ["train class 0", "train class 7"]
    found = [[number(cell) for cell in row[1:]] for row in table.rows]
    np.testing.assert_allclose(found, [[1, 0], [-0.33, 0.33]])
