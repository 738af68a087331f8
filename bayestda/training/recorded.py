"""Look up how recorded runs were trained, and check that a repeated run is the same."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bayestda.errors import UserError
from bayestda.model.checks import check_posterior
from bayestda.model.examples import Data, examples
from bayestda.model.looks import look
from bayestda.model.objective import Objective
from bayestda.model.parameters import first_trained, thetas
from bayestda.model.readings import check_steady
from bayestda.training.history import Training
from bayestda.training.posterior import Posterior, in_memory

# How far a repeated run may end from its checkpoint, as a share of the distance that the run
# travelled: room for rounding, which other data or another objective exceed.
DRIFT = 0.05


def recorded_training(posterior: Posterior) -> Training:
    """Return how the posterior was trained.

    Raises:
        UserError: The posterior was trained elsewhere.
    """
    check_posterior(posterior)
    if posterior.training is None:
        raise UserError(
            "retraining needs a posterior from tda.train_posterior, which records how it was "
            "trained; this one was loaded"
        )
    return posterior.training


def check_same_runs(
    posterior: Posterior, seeds: Sequence[int], place: int, theta_SP: Tensor, initial_SP: Tensor
) -> None:
    """Check that repeated runs arrive at the posterior's checkpoint, within :data:`DRIFT`.

    Args:
        posterior: Samples from :func:`tda.train_posterior`.
        seeds: Names of the runs.
        place: Number of the checkpoint in a run, counted from 0.
        theta_SP: Parameters of the repeated runs at this checkpoint.
        initial_SP: Parameters of the runs at their start.

    Raises:
        UserError: A run ends elsewhere.
    """
    kept_SP = thetas([posterior.network(seed, place) for seed in seeds]).to(theta_SP)
    drift_S = (theta_SP - kept_SP).norm(dim=1) / (kept_SP - initial_SP).norm(dim=1)
    worst = int(drift_S.nan_to_num(torch.inf).argmax())
    if not drift_S[worst] < DRIFT:
        raise UserError(
            f"the run of seed {seeds[worst]} does not arrive at its checkpoint when repeated (it "
            f"ends {float(drift_S[worst]):.0%} of its way off): give the examples, in their order, "
            "and the objective that it was trained on; long runs need float64"
        )


def held_examples(
    posterior: Posterior, objective: Objective, data: Any, *, measured: bool = False
) -> Data:
    """Return all examples as tensors, as the network and the objective take them.

    Args:
        posterior: Samples of θ, for the network.
        objective: The objective.
        data: Examples, in a form of :func:`bayestda.model.examples.examples`.
        measured: Whether the examples are only measured on.

    Raises:
        UserError: Targets do not fit the objective, or data change from reading to reading.
    """
    network = posterior.template(posterior.seeds[0])
    parameter = first_trained(network)
    placed = examples(data, parameter.device, parameter.dtype)
    check_steady(placed, "training or test")
    return in_memory(placed, objective, network, measured=measured)


def looked_examples(
    posterior: Posterior, objective: Objective, train: Any, test: Any
) -> tuple[Data, Data]:
    """Return training and test examples as :func:`held_examples`, after a look at them.

    Raises:
        UserError: As of :func:`held_examples` and :func:`bayestda.model.looks.look`.
    """
    train_data = held_examples(posterior, objective, train)
    test_data = held_examples(posterior, objective, test, measured=True)
    look(posterior.network(posterior.seeds[0], 0), objective, train_data, test_data)
    return train_data, test_data
