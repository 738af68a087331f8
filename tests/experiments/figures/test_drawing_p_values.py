"""p-value figures show what the tables and pair files say."""

import numpy as np
import pandas as pd
import pytest

from bayestda.experiments.figures import histograms, p_values
from bayestda.plots import style


def lines_table(**columns):
    return pd.DataFrame({"panel": "CNN2", "expected_mean_p": 0.5, "n_seeds": 4, **columns})


def test_histogram_bars_are_the_counts_of_the_p_values(pairs_of):
    p_NM = np.random.default_rng(0).uniform(size=(30, 40)) ** 2
    axis = histograms.p_value_histograms({"one": pairs_of(p_NM)}, "heading").axes[0]
    heights = [bar.get_height() for bar in axis.patches if hasattr(bar, "get_width")]
    assert heights == np.histogram(p_NM, 20, (0, 1))[0].tolist()
    assert sum(heights) == p_NM.size


def test_histogram_outline_is_the_published_statistic_and_the_line_is_uniform(pairs_of):
    p_NM = np.random.default_rng(0).uniform(size=(30, 40)) ** 2
    axis = histograms.p_value_histograms({"one": pairs_of(p_NM)}, "heading").axes[0]
    outline = next(artist for artist in axis.patches if hasattr(artist, "get_data"))
    assert (
        outline.get_data().values.tolist() == np.histogram((p_NM + 1) / 2, 20, (0, 1))[0].tolist()
    )
    assert axis.lines[0].get_ydata()[0] == p_NM.size / 20


def test_histogram_leaves_undefined_p_values_out_of_n(pairs_of):
    p_NM = np.full((10, 10), 0.01)
    p_NM[0] = np.nan
    axis = histograms.p_value_histograms({"one": pairs_of(p_NM)}, "heading").axes[0]
    assert "n = 90 pairs, 4 seeds\nmean p 0.010, 100.0% below .05" in axis.texts[0].get_text()


def test_uniform_line_is_at_the_same_height_in_panels_of_unequal_n(pairs_of):
    rng = np.random.default_rng(1)
    panels = {
        "few": pairs_of(rng.uniform(size=(9, 9))),
        "many": pairs_of(rng.uniform(size=(90, 9))),
    }
    axes = histograms.p_value_histograms(panels, "heading").axes
    few, many = (axis.lines[0].get_ydata()[0] / axis.get_ylim()[1] for axis in axes)
    assert few == pytest.approx(many)


def test_size_figure_draws_one_line_a_method_in_its_colour_with_its_interval():
    mean = np.array([0.4, 0.3, 0.2, 0.1])
    table = lines_table(
        method=["loo", "loo", "ats", "ats"],
        num_train=[60, 30, 30, 60],
        mean_p=mean,
        mean_p_low=mean - 0.05,
        mean_p_high=mean + 0.05,
    )
    axis = p_values.p_value_by_size(table).axes[0]
    loo = next(line for line in axis.lines if line.get_label() == "LOO")
    assert loo.get_ydata().tolist() == [0.3, 0.4]
    np.testing.assert_allclose(loo.get_xdata(), [30, 60], atol=0.5)
    assert loo.get_color() == style.colour("loo")
    intervals = axis.collections[0].get_segments()
    np.testing.assert_allclose([ends[:, 1] for ends in intervals], [[0.25, 0.35], [0.35, 0.45]])
    assert "expected under H0" in [text.get_text() for text in axis.texts]


def test_checkpoint_figure_has_one_line_for_each_size_and_randomness():
    table = lines_table(
        num_train=[30, 30, 30, 30, 150, 150],
        num_checkpoints=[1, 2] * 3,
        randomness=["DE-Batch"] * 2 + ["DE-Init"] * 4,
        mean_p=[0.5, 0.4, 0.3, 0.2, 0.1, 0.05],
        mean_p_low=np.nan,
        mean_p_high=np.nan,
    )
    axis = p_values.p_value_by_checkpoints(table).axes[0]
    lines = {line.get_label(): line.get_ydata().tolist() for line in axis.lines[:3]}
    assert lines == {
        "30 · DE-Init": [0.3, 0.2],
        "150 · DE-Init": [0.1, 0.05],
        "30 · DE-Batch": [0.5, 0.4],
    }
