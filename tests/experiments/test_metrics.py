"""Entries of metrics, tables and figures agree with what is computed, drawn and planned."""

import math

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from bayestda import statistics
from bayestda.experiments import metrics, outputs, paths
from bayestda.experiments.figures.catalogue import FIGURES
from bayestda.experiments.sample import Sample, over_seeds

LABELS = {"train_label": ("train", np.arange(6) % 2), "test_label": ("test", np.arange(5) % 2)}


@pytest.fixture
def runs():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 5)) + 0.5 * rng.normal(size=(4, 6, 5))
    return xr.DataArray(values, {"seed": range(4), **LABELS}, ("seed", "train", "test"))


def test_every_quantity_of_the_library_has_an_entry(runs):
    alone = set(statistics.reliability(runs)["quantity"])
    with_loo = set(statistics.agreement(runs, runs)["quantity"])
    assert {one.name for one in metrics.of_table("reliability", with_loo=False)} == alone
    assert {one.name for one in metrics.of_table("reliability", with_loo=True)} == with_loo


def test_entries_are_of_tables_that_exist_and_are_called_by_their_name():
    for name, metric in metrics.METRICS.items():
        assert metric.name == name
        assert metric.table in outputs.TABLES
    assert {figure.table for figure in FIGURES.values()} <= set(outputs.TABLES)
    for table in outputs.TABLES:
        assert (paths.REPOSITORY / "analysis" / f"{table}.py").exists()
    for table in outputs.FINAL_TABLES:
        assert (paths.REPOSITORY / "analysis" / f"fimo_{table}.py").exists()
    assert set(outputs.REDUCED_TABLES) <= set(outputs.FINAL_TABLES)


def test_a_function_over_seeds_has_the_jackknife_interval_of_the_mean(runs):
    found = over_seeds(lambda maps: float(maps.mean()))(Sample(runs))
    means = runs.mean(("train", "test")).values
    half = 3.182446 * means.std(ddof=1) / 2  # Student's quantile of 3 degrees of freedom
    np.testing.assert_allclose(
        found, [means.mean(), means.mean() - half, means.mean() + half], 1e-6
    )


def test_two_seeds_give_no_interval(runs):
    found = over_seeds(lambda maps: float(maps.mean()))(Sample(runs.isel(seed=[0, 1])))
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_undefined_metrics_are_missing_and_not_zero(runs):
    needs_losses = metrics.METRICS["mean_pairwise_std"]
    assert math.isnan(metrics.cells(needs_losses, Sample(runs))["mean_pairwise_std"])
    unlabelled = Sample(runs.drop_vars(list(LABELS)))
    assert metrics.estimate(metrics.METRICS["label_share"], unlabelled) is None


def test_every_column_of_the_summary_is_explained():
    notes = metrics.summary_notes()
    assert len(notes) == len(list(metrics.in_summary()))
    assert all(notes.values())
    assert pd.Series(list(notes)).is_unique
