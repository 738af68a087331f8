"""Score distributions and galleries show the right pairs, seeds and images."""

import numpy as np
import pytest
import xarray as xr

from bayestda.experiments.data.subsets import Images
from bayestda.experiments.figures import exemplars, gallery
from bayestda.plots import overview, scores
from bayestda.plots.pairs import least_reliable, most_reliable

NUM_SEEDS = 4


def all_texts(figure):
    return [text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text"))]


def test_score_distribution_shows_every_seed_and_the_mean_with_standard_error(pairs_of):
    values_SNM = np.arange(NUM_SEEDS * 6.0).reshape(NUM_SEEDS, 2, 3)
    pairs = pairs_of([[0.1, 0.2, 0.3]] * 2, mean_NM=values_SNM.mean(0))
    array = xr.DataArray(
        values_SNM,
        dims=("seed", "train", "test"),
        name="ats",
        coords={"train": pairs["train"], "test": pairs["test"]},
    )
    figure = scores.score_distributions(array, pairs, {"most": [(101, 52)]}, "x")
    dots, mean = figure.axes[0].lines[:2]
    assert dots.get_ydata().tolist() == values_SNM[:, 1, 2].tolist()
    assert mean.get_ydata().tolist() == [values_SNM[:, 1, 2].mean()]
    bar = figure.axes[0].collections[0].get_segments()[0][:, 1]
    assert np.ptp(bar) == pytest.approx(2 * 0.2 / NUM_SEEDS**0.5)
    assert "n = 4 seeds" in figure.get_suptitle()


def test_dots_against_a_truth_go_by_names_and_not_by_places(monkeypatch):
    values_SNM = np.random.default_rng(0).normal(size=(3, 4, 5))
    coords = {"train": [7, 3, 5, 9], "test": list("abcde")}
    array = xr.DataArray(values_SNM, coords, ("seed", "train", "test"), name="influence")
    truth = (2 * array[:, ::-1, ::-1]).rename("loo")
    figure = overview.show(array, truth=truth)
    x, y = figure.axes[0].lines[-1].get_data()
    np.testing.assert_allclose(y, 2 * x)
    assert "n = 20 train-test pairs." in all_texts(figure)
    monkeypatch.setattr(overview, "MAX_POINTS", 6)
    figure = overview.show(array, truth=truth)
    assert len(figure.axes[0].lines[-1].get_xdata()) == 6
    assert "n = 20 train-test pairs, of which 6 at random are drawn." in all_texts(figure)


def test_most_and_least_reliable_pairs_have_different_test_images(pairs_of):
    p_NM = [[0.001, 0.002, 0.9], [0.5, 0.99, 0.003], [np.nan, 0.2, 0.98]]
    q_NM = [[0.01, 0.01, 0.9], [0.6, 0.99, 0.02], [np.nan, 0.3, 0.98]]
    pairs = pairs_of(p_NM, q_NM=q_NM)
    assert most_reliable(pairs, 3) == [(100, 50), (100, 51), (101, 52)]
    assert least_reliable(pairs, 2) == [(101, 51), (102, 52)]


def test_what_helps_has_positive_scores(pairs_of):
    mean_NM = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    pairs = pairs_of(np.full((4, 1), 0.5), mean_NM=mean_NM)
    helpful, harmful = exemplars.extremes(pairs, 50, 5)
    assert (helpful[0], harmful[0]) == (103, 100)
    assert len(helpful) == len(harmful) == 2


def test_gallery_tile_has_the_right_pixels_and_caption(pairs_of):
    images = Images(
        pixels=np.stack([np.full((4, 4), value, np.uint8) for value in (7, 9)]),
        label=np.array([0, 2]),
        index=np.array([100, 101]),
        exact=True,
    )
    pairs = pairs_of([[0.5], [0.0421]], mean_NM=[[0.0], [-1.25]])
    tile = exemplars.pair_tile(pairs, (101, 50), images)
    assert tile.pixels_HWC[0, 0] == 9
    assert tile.caption == "label 2 · no. 101\n\N{MINUS SIGN}1.25 ± 0.10\nq = .042"
    assert tile.edge == exemplars.HARMS
    figure = gallery.gallery([gallery.Row("LOO", (None, tile), "Most")], ["a", "b"], "h", "n")
    assert len(figure.axes) == 1
    assert {"Most", "LOO", "a", "b", "h", "n"} <= set(all_texts(figure))
