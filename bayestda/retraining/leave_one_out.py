"""Ground truth by retraining: leave-one-out, groups, subsets, one additional step."""

from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from bayestda.errors import UserError
from bayestda.model.examples import Data, labels
from bayestda.model.objective import Objective
from bayestda.training.loop import losses, train
from bayestda.training.members import Members
from bayestda.training.posterior import Posterior
from bayestda.training.recipe import Recipe
from bayestda.training.recorded import held_examples, recorded_training


def leave_one_out(
    posterior: Posterior, objective: Objective, train: Any, test: Any, *, chunk: int = 1
) -> xr.DataArray:
    """Measurement without each training example less that with all: positive = helpful.

    Every run is repeated N times from its own initialisation and order of the data, with the
    example's weight in the loss set to 0 (Nguyen et al. 2023, equation 1). N + 1 trainings a seed.

    Args:
        posterior: from :func:`tda.train_posterior`.
        objective, train, test: as in :func:`tda.attribute`; ``train`` is what was trained on.
        chunk: members trained together, on a GPU, or where the network is small; of several seeds
            if one seed's members are fewer.

    Returns:
        Dims (seed, checkpoint, train, test).

    Raises:
        UserError: the posterior was trained elsewhere, or on another number of examples.
    """
    num_train = len(recorded_training(posterior).order[posterior.seeds[0]][0, 0])
    groups = np.eye(num_train, dtype=bool)
    scores = leave_group_out(posterior, objective, train, test, groups=groups, chunk=chunk)
    held = held_examples(posterior, train)
    scores = scores.rename(group="train").rename("loo").assign_coords(labels("train", held))
    return scores.assign_attrs(method="loo")


def leave_group_out(
    posterior: Posterior,
    objective: Objective,
    train: Any,
    test: Any,
    *,
    groups: Any,
    chunk: int = 1,
) -> xr.DataArray:
    """Measurement without each group less that with all examples: positive = helpful.

    Args:
        posterior, objective, train, test, chunk: as in :func:`leave_one_out`.
        groups: booleans [G N], True for the examples that a group leaves out.

    Returns:
        Dims (seed, checkpoint, group, test).
    """
    removed_GN = torch.as_tensor(np.asarray(groups, dtype=bool))
    weight_RN = torch.cat([torch.ones(1, removed_GN.shape[1]), 1.0 - removed_GN.float()])
    measured = retrained(posterior, objective, train, test, weights=weight_RN, chunk=chunk)
    scores = measured.isel(member=slice(1, None)) - measured.isel(member=0, drop=True)
    scores = scores.rename(member="group").rename("leave_group_out")
    return scores.assign_attrs(method="leave_group_out", sign="positive = helpful")


def retrained(
    posterior: Posterior,
    objective: Objective,
    train: Any,
    test: Any,
    *,
    weights: Any,
    chunk: int = 1,
) -> xr.DataArray:
    """Measurements of models trained again with other weights of the examples.

    Args:
        posterior, objective, train, test, chunk: as in :func:`leave_one_out`.
        weights: of the examples' losses [R N]; the mean still divides by the size of a batch. Rows
            of zeros and ones are the subsets of a linear datamodelling score.

    Returns:
        Dims (seed, checkpoint, member, test).
    """
    training, network = recorded_training(posterior), posterior.build()
    held, queries = held_examples(posterior, train), held_examples(posterior, test)
    weight_RN = torch.as_tensor(weights, dtype=next(network.parameters()).dtype)
    if weight_RN.shape[1:] != (len(held),):
        raise UserError(
            f"weights or groups must have one column per training example, {len(held)}, not "
            f"{tuple(weight_RN.shape)}"
        )
    by_seed: list[Tensor] = []
    chunk = min(chunk, len(weight_RN) * (1 if training.dropout else len(posterior.seeds)))
    for seeds, members in training.together(weight_RN, held.y.device, chunk):
        measured_CRM = retrained_losses(
            network, objective, training.recipe, members,
            train_data=held, test_data=queries, chunk=chunk,
        )  # fmt: skip
        by_seed += measured_CRM.unflatten(1, (len(seeds), len(weight_RN))).movedim(1, 0)
    return xr.DataArray(
        torch.stack(by_seed).cpu().numpy(),
        dims=("seed", "checkpoint", "member", "test"),
        coords={
            "seed": list(posterior.seeds),
            "checkpoint": list(posterior.checkpoints),
            **labels("test", queries),
        },
        name="measurement",
    )


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
