"""The table of estimators: one entry, and scoring, figures and pages know an estimator.

Functions are named by their modules and imported when asked for: figures and tables need no torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from bayestda.errors import UserError

APART, SUM = "apart", "sum"  # checkpoints have scores of their own, or their scores are added up
CHANGE = "change of the measurement"
CHANGE_TIMES_N = "change of the measurement x N"  # ∇gᵀ φ(C) ∇L with C of the *mean* training loss
PROPORTIONAL = "change of the measurement, up to a factor"
NO_UNIT = "none"
UNITS = (CHANGE, CHANGE_TIMES_N, PROPORTIONAL, NO_UNIT)
GREY = "#555555"  # of estimators that have no colour and extend no other's name


@dataclass(frozen=True)
class Estimator:
    """One way to score training examples.

    Attributes:
        compute: A function from :class:`bayestda.gradients.sample.SampleGradients` and settings to
            scores [N M], or to blocks of them. A string ``module:name`` is imported when it is
            needed. If the estimator retrains: a function from posterior, objective, train and test.
        name: The name in figures.
        colour: The colour in figures. None: that of the estimator whose name this one's extends,
            as ``influence_ekfac`` extends ``influence``; else grey.
        unit: One of ``UNITS``: what a score measures.
        advice: What to do where scores are not changes of the measurement by a known factor.
        combine: ``APART``: each checkpoint has scores. ``SUM``: scores of checkpoints are added up.
            A function: from the list of what the checkpoints of a run gave to blocks of scores.
        several: A function from gradients and a list of dampings to blocks [D n m], which shares
            work between dampings. None: ``compute`` is called for each.
        retrains: Whether models are trained again, which ``attribute`` does not.
        standard: Whether every experiment computes it, and its tables and figures show it.
    """

    compute: Callable[..., Any] | str
    name: str
    colour: str | None = None
    unit: str = PROPORTIONAL
    advice: str = "the library does not know it: give scale="
    combine: Callable[..., Any] | str = APART
    several: Callable[..., Any] | str | None = None
    retrains: bool = False
    standard: bool = False

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise UserError(f"unit={self.unit!r} is unknown: choose one of {', '.join(UNITS)}")

    @property
    def function(self) -> Callable[..., Any]:
        """``compute``, imported."""
        return _imported(self.compute)

    @property
    def combined(self) -> Callable[..., Any] | str:
        """``combine``, imported where it is a function."""
        return self.combine if self.combine in (APART, SUM) else _imported(self.combine)

    @property
    def of_dampings(self) -> Callable[..., Any] | None:
        """``several``, imported."""
        return None if self.several is None else _imported(self.several)


def _imported(function: Callable[..., Any] | str) -> Callable[..., Any]:
    if callable(function):
        return function
    module, _, name = function.partition(":")
    return getattr(import_module(module), name)


def _influence(compute: str, name: str, **more: Any) -> Estimator:
    """An estimator of ∇gᵀ φ(C) ∇L: its scores divided by N estimate leave-one-out."""
    return Estimator(f"bayestda.methods.{compute}", name, unit=CHANGE_TIMES_N, **more)


# The order is that of figures. Colours are Okabe and Ito's, which survive colour blindness.
METHODS: dict[str, Estimator] = {
    "loo": Estimator(
        "bayestda.retraining.leave_one_out:leave_one_out", "LOO", "#0072B2",
        unit=CHANGE, retrains=True, standard=True,
    ),
    "ats": Estimator(
        "bayestda.retraining.additional_step:additional_step", "ATS", "#E69F00",
        unit=NO_UNIT, retrains=True, standard=True,
        advice="it is the effect of one more step on the example and not of its whole training: "
        "take 'unrolled' shifts",
    ),
    "influence": _influence(
        "influence:influence", "IF", colour="#009E73", standard=True,
        several="bayestda.methods.influence:influence_by_dampings",
    ),
    "grad_dot": Estimator(
        "bayestda.methods.grad_dot:grad_dot", "Grad-Dot", "#CC79A7", standard=True,
        advice="it is the change per unit of Σ_t η_t / N, where curvature does not matter yet: "
        "give scale=Σ_t η_t / N, or take method='flow', which knows the horizon and the curvature",
    ),
    "grad_cos": Estimator(
        "bayestda.methods.grad_cos:grad_cos", "Grad-Cos", "#D55E00", unit=NO_UNIT,
        standard=True,
        advice="gradients are normalised, each by its own length, so that no factor gives "
        "changes of the measurement: take 'grad_dot' with scale=, or 'flow'",
    ),
    "tracin": Estimator(
        "bayestda.methods.tracin:tracin", "TracIn", combine=SUM,
        advice="its sum over checkpoints leaves out how many steps each stands for, and B: give "
        "scale=(epochs between checkpoints) / B",
    ),
    "influence_hessian": _influence(
        "influence:hessian_influence", "IF (Hessian)",
        several="bayestda.methods.influence:hessian_influence_by_dampings",
    ),
    "influence_cg": _influence("conjugate_gradients:cg_influence", "IF (CG)"),
    "influence_lissa": _influence("lissa:lissa", "IF (LiSSA)"),
    "influence_low_rank": _influence("low_rank:low_rank_influence", "IF (low rank)"),
    "influence_ekfac": _influence("ekfac:ekfac_influence", "IF (EK-FAC)"),
    "influence_projected": _influence("logra:projected_influence", "IF (projected)"),
    "influence_preconditioned": _influence(
        "preconditioned:preconditioned_influence", "IF (preconditioned)"
    ),
    "datainf": _influence("datainf:datainf", "DataInf"),
    "generalised": _influence("generalised:generalised_influence", "generalised IF"),
    "proposition_1": _influence("generalised:proposition_1", "Proposition 1"),
    "near_stationary": _influence("generalised:near_stationary", "near-stationary IF"),
    "trak": Estimator(
        "bayestda.methods.trak:trak_parts", "TRAK", unit=NO_UNIT,
        combine="bayestda.methods.trak:mean_products",
        advice="TRAK's kernel leaves out the loss's curvature in the outputs and its scores are a "
        "product of means over models, so that they rank examples and have no unit: take "
        "'influence_projected'",
    ),
    "unrolled": _influence("unrolled:unrolled_influence", "unrolled"),
    "flow": _influence("unrolled:flow_influence", "flow"),
    "representer": Estimator(
        "bayestda.methods.representer:representer_points", "representer", unit=NO_UNIT,
        advice="representer values share out an output at the optimum; they are not what it "
        "changes by when the others are trained again: take 'influence' with parameters='head.*'",
    ),
    "leave_group_out": Estimator(
        "bayestda.retraining.leave_one_out:leave_group_out", "leave-group-out",
        unit=CHANGE, retrains=True,
    ),
    "replay": Estimator(
        "bayestda.retraining.replay:replay", "replay", unit=CHANGE, retrains=True
    ),
}  # fmt: skip


def base_of(method: str) -> str | None:
    """Return the estimator with a colour whose name a method's name is or extends.

    The longest such name: ``influence`` of ``influence_lissa``. None: there is none.
    """
    coloured = [name for name, entry in METHODS.items() if entry.colour]
    return max((name for name in coloured if _extends(method, name)), key=len, default=None)


def colour_of(method: str) -> str:
    """Return a method's colour in figures."""
    base = base_of(method)
    return (METHODS[base].colour if base else None) or GREY


def name_of(method: str) -> str:
    """Return a method's name in figures: ``LOO (published)`` of ``loo_published``."""
    base = max((name for name in METHODS if _extends(method, name)), key=len, default=method)
    variant = method.removeprefix(base).strip("_")
    known = METHODS[base].name if base in METHODS else base
    return known + (f" ({variant})" if variant else "")


def place_of(method: str) -> tuple[int, str]:
    """Return a sort key: the order of figures, variants after their method, strangers last."""
    base = base_of(method)
    return (list(METHODS).index(base) if base else len(METHODS)), method


def _extends(method: str, name: str) -> bool:
    return method == name or method.startswith(f"{name}_")
