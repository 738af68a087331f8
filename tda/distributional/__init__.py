"""Distributional attribution: how training examples shape the distribution over training runs."""

from tda.distributional.curves import lds_by_runs
from tda.distributional.differences import quantile, tail, wasserstein
from tda.distributional.estimates import measure, shifts
from tda.distributional.influence import (
    distributional_influence,
    predict_removal,
    rank_removals,
)
from tda.distributional.scales import as_shifts
from tda.distributional.validation import Validation, validate

__all__ = [
    "Validation",
    "as_shifts",
    "distributional_influence",
    "lds_by_runs",
    "measure",
    "predict_removal",
    "quantile",
    "rank_removals",
    "shifts",
    "tail",
    "validate",
    "wasserstein",
]
