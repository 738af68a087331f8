"""What is known of the training of recorded runs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bayestda.errors import UserError
from bayestda.model.examples import Data
from bayestda.model.parameters import thetas
from bayestda.training.posterior import Posterior, Training, in_memory

DRIFT = 0.05  # of the distance travelled: how far a repeated run may end from its checkpoint


def recorded_training(posterior: Posterior) -> Training:
    """How the posterior was trained.

    Raises:
        UserError: it was trained elsewhere.
    """
    if posterior.training is None:
        raise UserError(
            "retraining needs a posterior from tda.train_posterior, which records how it was "
            "trained; this one was loaded"
        )
    return posterior.training


def check_same_runs(
    posterior: Posterior, seeds: Sequence[int], place: int, theta_SP: Tensor, initial_SP: Tensor
) -> None:
    """Refuse to go on from runs that are not the posterior's.

    Args:
        posterior: what was trained.
        seeds: of the runs.
        place: of the checkpoint, counted from 0.
        theta_SP, initial_SP: of the runs, now that they are there again, and at their start.

    Raises:
        UserError: a run ends elsewhere.
    """
    kept_SP = thetas([posterior.network(seed, place) for seed in seeds]).to(theta_SP)
    drift_S = (theta_SP - kept_SP).norm(dim=1) / (kept_SP - initial_SP).norm(dim=1)
    worst = int(drift_S.nan_to_num(torch.inf).argmax())
    if not drift_S[worst] < DRIFT:
        raise UserError(
            f"the run of seed {seeds[worst]} does not come to its checkpoint again (it ends "
            f"{float(drift_S[worst]):.0%} of the way from it): give the examples, in their order, "
            "and the objective that it was trained on; long runs need float64"
        )


def held_examples(posterior: Posterior, data: Any) -> Data:
    """All examples as tensors, where and as the network's parameters are."""
    parameter = next(posterior.build().parameters())
    return in_memory(data, parameter.device, parameter.dtype)
