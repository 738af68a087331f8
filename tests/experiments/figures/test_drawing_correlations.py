"""Heat maps and estimates show what the tables say."""

import numpy as np
import pandas as pd

from bayestda.experiments.figures import correlations, estimates
from bayestda.experiments.grid import METHODS, PAPER_GRID
from bayestda.plots import style


def correlation_table(seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for a, method_a in enumerate(METHODS):
        for method_b in METHODS[a + 1 :]:
            for kind in correlations.KINDS:
                for statistic in correlations.STATISTICS:
                    value = rng.uniform(-0.9, 0.9)
                    rows.append(
                        (method_a, method_b, statistic, kind, value, value - 0.1, value + 0.1, 4)
                    )
    columns = ["method_a", "method_b", "statistic", "kind", "value", "low", "high", "n_seeds"]
    return pd.DataFrame(rows, columns=columns)


def test_every_heat_map_cell_shows_the_value_of_the_table_symmetrically():
    table = correlation_table()
    figure = correlations.correlation_maps(table, "an experiment")
    titles = [axis.get_title(loc="left") for axis in figure.axes[:6]]
    for row in table.itertuples():
        name = f"{row.kind.capitalize()} · {correlations.STATISTICS[row.statistic]}"
        axis = figure.axes[titles.index(name)]
        a, b = METHODS.index(row.method_a), METHODS.index(row.method_b)
        for line, column in ((a, b), (b, a)):
            inside = [
                text.get_text()
                for text in axis.texts
                if (int(text.get_position()[0]), int(text.get_position()[1])) == (column, line)
            ]
            assert inside == [
                style.short(row.value),
                f"{style.short(row.low)} … {style.short(row.high)}",
            ]
            assert axis.collections[0].get_array().reshape(5, 5)[line, column] == row.value


def test_heat_maps_range_from_minus_one_to_one_with_ones_on_the_diagonal():
    for axis in correlations.correlation_maps(correlation_table(), "x").axes[:6]:
        assert axis.collections[0].get_clim() == (-1, 1)
        assert np.diag(axis.collections[0].get_array().reshape(5, 5)).tolist() == [1.0] * 5


def test_heat_map_says_where_a_correlation_is_not_known():
    table = correlation_table().iloc[1:]  # LOO with ATS: no Pearson correlation of means
    axis = correlations.correlation_maps(table, "x").axes[0]
    assert [text.get_text() for text in axis.texts].count("n/a") == 2


def test_correlation_figures_have_the_papers_numbers():
    names = [correlations.figure_names(experiment.name) for experiment in PAPER_GRID]
    numbered = [f"figure_{number:02d}_correlations" for number in range(8, 16)]
    assert [name[-1] for name in names[:8]] == numbered
    assert names[2] == ["figure_05_correlations", "figure_10_correlations"]
    assert names[8:] == [["correlations"], ["correlations"]]


def test_estimates_stand_at_their_values_with_their_intervals():
    table = pd.DataFrame(
        {
            "panel": "p",
            "category": ["seed", "seed", "order"],
            "method": ["loo", "ats", "loo"],
            "value": [0.7, 0.5, 0.3],
            "low": [0.6, 0.4, 0.2],
            "high": [0.8, 0.6, np.nan],
        }
    )
    axis = estimates.estimates(table, "heading", "share", (0, 1), "").axes[0]
    loo = next(line for line in axis.lines if line.get_label() == "LOO")
    assert loo.get_xdata().tolist() == [0.7, 0.3]
    assert axis.collections[0].get_segments()[0][:, 0].tolist() == [0.6, 0.8]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["seed", "order"]
