"""Leave-one-out retraining, and what the released code computes under that name."""

import torch
from torch import Tensor, nn

from tda.ensemble import losses, train
from tda.examples import Data
from tda.experiments import Recipe
from tda.members import Members
from tda.objective import Objective


def removals(num_train: int, members: range) -> Tensor:
    """Weights [R N] of some of the 1 + N members.

    Member 0 is the base run, with all ones; member j + 1 lacks example j.
    """
    weight_RN = torch.ones(len(members), num_train)
    for row, member in enumerate(members):
        if member:
            weight_RN[row, member - 1] = 0
    return weight_RN


def retrained_losses(
    network: nn.Module,
    objective: Objective,
    recipe: Recipe,
    members: Members,
    *,
    train_data: Data,
    test_data: Data,
    chunk: int = 1,
    tf32: bool = False,
) -> Tensor:
    r"""Test losses [C R M] of members that are trained with some examples' weights set to 0.

    The leave-one-out score (Nguyen et al. 2023, equation 1) is
    :math:`L(z; \theta_{\backslash j}) - L(z; \theta)`, positive = helpful: the difference of two
    rows of this array, from one initialisation and one order of the data. One retraining serves
    all kept checkpoints.
    """
    stacked = chunk > 1
    parts = [
        torch.stack(
            [losses(network, objective, theta, test_data, stacked=stacked) for theta in theta_CRP]
        )
        for _, theta_CRP in train(
            network, objective, train_data, recipe, members, chunk=chunk, tf32=tf32
        )
    ]
    return torch.cat(parts, dim=1)
