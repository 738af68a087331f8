"""Training data attribution as a random variable: sample it, test it, explain it.

Letters at the end of a variable's name are its dimensions: N train, M test, P parameters, S seeds,
C checkpoints, K outputs, B batch, R members trained together, E epochs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tda.attribution import attribute, self_influence
    from tda.distributional.confirmation import confirm_removals
    from tda.distributional.curves import lds_by_runs
    from tda.distributional.differences import quantile, tail
    from tda.distributional.estimates import measure, shifts
    from tda.distributional.influence import (
        distributional_influence,
        predict_removal,
        rank_removals,
    )
    from tda.distributional.scales import as_shifts
    from tda.distributional.validation import validate
    from tda.experiments import Recipe
    from tda.figures.overview import show
    from tda.further_training import fully_adjusted, further_train, mean_adjusted
    from tda.groups import group_scores
    from tda.methods import METHODS
    from tda.objective import BinaryClassification, Classification, FromLoss, Objective, Regression
    from tda.posterior import Posterior, train_posterior
    from tda.replays import replay
    from tda.retraining import additional_step, leave_group_out, leave_one_out, retrained
    from tda.statistics import compare, evaluate
    from tda.statistics.pairs import pair_reliability as reliability

_HOME = {  # loaded when first asked for: figures and tables need no torch
    "attribute": "attribution",
    "group_scores": "groups",
    "self_influence": "attribution",
    "METHODS": "methods",
    "as_shifts": "distributional.scales",
    "confirm_removals": "distributional.confirmation",
    "distributional_influence": "distributional.influence",
    "lds_by_runs": "distributional.curves",
    "measure": "distributional.estimates",
    "predict_removal": "distributional.influence",
    "quantile": "distributional.differences",
    "rank_removals": "distributional.influence",
    "shifts": "distributional.estimates",
    "tail": "distributional.differences",
    "validate": "distributional.validation",
    "BinaryClassification": "objective",
    "Classification": "objective",
    "FromLoss": "objective",
    "Objective": "objective",
    "Regression": "objective",
    "Posterior": "posterior",
    "Recipe": "experiments",
    "further_train": "further_training",
    "fully_adjusted": "further_training",
    "mean_adjusted": "further_training",
    "additional_step": "retraining",
    "leave_group_out": "retraining",
    "leave_one_out": "retraining",
    "retrained": "retraining",
    "compare": "statistics",
    "evaluate": "statistics",
    "reliability": "statistics.pairs",
    "replay": "replays",
    "show": "figures.overview",
    "train_posterior": "posterior",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tda' has no attribute {name!r}")
    own_name = {"reliability": "pair_reliability"}.get(name, name)
    return getattr(import_module(f"tda.{_HOME[name]}"), own_name)
