"""Attribute a model's behaviour to its training data, and test how far the scores can be trusted.

Training is random, so a score is a random variable: the library samples it over runs, tests it
and explains it.

Letters at the end of a variable's name give its dimensions: N train, M test, P parameters,
S seeds, C checkpoints, K outputs, B batch, R members trained together, E epochs.
"""

TYPE_CHECKING = False  # as of typing, whose import would take most of the time of this one
if TYPE_CHECKING:
    from bayestda.distributional.confirmation import confirm_removals
    from bayestda.distributional.curves import lds_by_runs
    from bayestda.distributional.differences import quantile, tail
    from bayestda.distributional.influence import (
        distributional_influence,
        predict_removal,
        rank_removals,
    )
    from bayestda.distributional.shifts import measure, shifts
    from bayestda.distributional.validation import validate
    from bayestda.errors import UserError
    from bayestda.model.losses import BinaryClassification, Classification, FromLoss, Regression
    from bayestda.model.objective import Objective
    from bayestda.page.from_scores import write_page
    from bayestda.plots.overview import show
    from bayestda.retraining.additional_step import additional_step
    from bayestda.retraining.further_training import fully_adjusted, further_train, mean_adjusted
    from bayestda.retraining.leave_one_out import leave_group_out, leave_one_out, retrained
    from bayestda.retraining.replay import replay
    from bayestda.scores.attribution import attribute, self_influence
    from bayestda.scores.estimators import METHODS
    from bayestda.scores.groups import group_scores
    from bayestda.scores.scales import as_shifts
    from bayestda.statistics import compare, evaluate
    from bayestda.statistics.significance import pair_reliability as reliability
    from bayestda.training.posterior import Posterior, train_posterior
    from bayestda.training.recipe import Recipe

_HOME = {  # loaded when first asked for: figures and tables need no torch
    "attribute": "scores.attribution",
    "group_scores": "scores.groups",
    "self_influence": "scores.attribution",
    "METHODS": "scores.estimators",
    "as_shifts": "scores.scales",
    "confirm_removals": "distributional.confirmation",
    "distributional_influence": "distributional.influence",
    "lds_by_runs": "distributional.curves",
    "measure": "distributional.shifts",
    "predict_removal": "distributional.influence",
    "quantile": "distributional.differences",
    "rank_removals": "distributional.influence",
    "shifts": "distributional.shifts",
    "tail": "distributional.differences",
    "validate": "distributional.validation",
    "BinaryClassification": "model.losses",
    "Classification": "model.losses",
    "FromLoss": "model.losses",
    "Objective": "model.objective",
    "Regression": "model.losses",
    "Posterior": "training.posterior",
    "UserError": "errors",
    "Recipe": "training.recipe",
    "further_train": "retraining.further_training",
    "fully_adjusted": "retraining.further_training",
    "mean_adjusted": "retraining.further_training",
    "additional_step": "retraining.additional_step",
    "leave_group_out": "retraining.leave_one_out",
    "leave_one_out": "retraining.leave_one_out",
    "retrained": "retraining.leave_one_out",
    "compare": "statistics",
    "evaluate": "statistics",
    "reliability": "statistics.significance",
    "replay": "retraining.replay",
    "show": "plots.overview",
    "adam_horizon": "training.horizon",
    "train_posterior": "training.posterior",
    "write_page": "page.from_scores",
}
__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name == "__version__":
        from importlib.metadata import version  # takes as long as all of this file

        return version("bayestda")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    own_name = {"reliability": "pair_reliability"}.get(name, name)
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), own_name)
    return value


def __dir__() -> list[str]:
    return __all__
