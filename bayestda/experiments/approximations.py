"""Methods that are compared with further training, and their settings, each once.

Importing this file does not import torch, so that a help text names the methods fast.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bayestda.experiments.final_models import FinalModels

DAMPINGS = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
SOLVED = (0.1, 1.0)  # where each damping costs an iterative solution
SOLVED_HESSIAN = (*SOLVED, 10.0)  # the true Hessian may have eigenvalues below minus the first
LISSA_STEPS, LISSA_BATCH = 100, 128
PROJECTION = 512  # dimensions of TRAK's projection, at most


@dataclass(frozen=True)
class Approximation:
    """Settings of a method in this comparison.

    Attributes:
        dampings: The dampings to compute it for; () if it has none.
        filtered: Whether it takes the filter of SGD's horizon at each measured epoch instead.
        thorough: Whether it costs (N·K)² numbers, or hundreds of products with a curvature for
            each test example.
        layers: Whether it covers linear and convolutional layers alone: scores are through these.
    """

    dampings: Sequence[float] = ()
    filtered: bool = False
    thorough: bool = False
    layers: bool = False


APPROXIMATIONS = {
    "grad_dot": Approximation(),
    "grad_cos": Approximation(),
    "influence": Approximation(DAMPINGS, thorough=True),
    "corollary_2": Approximation(DAMPINGS, thorough=True),
    "equation_16": Approximation(DAMPINGS, thorough=True),
    "horizon": Approximation(filtered=True, thorough=True),
    "horizon_generalised": Approximation(filtered=True, thorough=True),
    "horizon_linearised": Approximation(filtered=True, thorough=True),
    "horizon_ekfac": Approximation(filtered=True, layers=True),
    "ekfac": Approximation(DAMPINGS, layers=True),
    "datainf": Approximation(),
    "trak": Approximation(),
    "cg": Approximation(SOLVED, thorough=True),
    "lissa": Approximation(SOLVED, thorough=True),
    "lissa_h": Approximation(SOLVED, thorough=True),
    "proposition_1": Approximation(SOLVED_HESSIAN, thorough=True),
}


def default_methods(models: FinalModels) -> tuple[str, ...]:
    """Return the methods that fit a task's size and optimiser, unless others are asked for."""
    small, has_horizon = models.protocol.small, "sgd" in models.protocol.further
    if models.pretrained and not models.lora:  # others take minutes and 10 GB even of MiniLM
        return "grad_dot", "grad_cos"
    return tuple(
        name
        for name, settings in APPROXIMATIONS.items()
        if (small or not settings.thorough) and (has_horizon or not settings.filtered)
    )


def projection(num_train: int) -> int:
    """Return the dimensions of TRAK's projection: fewer than there are examples."""
    return PROJECTION if num_train > PROJECTION else num_train // 2
