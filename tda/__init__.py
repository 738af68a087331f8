"""Training data attribution as a random variable: sample it, test it, explain it.

Letters at the end of a variable's name are its dimensions: N train, M test, P parameters, S seeds,
C checkpoints, K outputs, B batch, R members trained together, E epochs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tda.attribution import attribute, group_scores, self_influence
    from tda.methods import METHODS
    from tda.objective import BinaryClassification, Classification, FromLoss, Objective, Regression
    from tda.posterior import Posterior, train_posterior

_HOME = {  # loaded when first asked for: figures and tables need no torch
    "attribute": "attribution",
    "group_scores": "attribution",
    "self_influence": "attribution",
    "METHODS": "methods",
    "BinaryClassification": "objective",
    "Classification": "objective",
    "FromLoss": "objective",
    "Objective": "objective",
    "Regression": "objective",
    "Posterior": "posterior",
    "train_posterior": "posterior",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tda' has no attribute {name!r}")
    return getattr(import_module(f"tda.{_HOME[name]}"), name)
