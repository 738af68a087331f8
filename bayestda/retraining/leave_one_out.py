"""Measure the ground truth by retraining without an example, without a group, or on a subset."""

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
from bayestda.training.recorded import held_examples, looked_examples, recorded_training


def leave_one_out(
    posterior: Posterior, objective: Objective, train: Any, test: Any, *, chunk: int = 1
) -> xr.DataArray:
    """Return leave-one-out (LOO) scores from retraining: positive = helpful.

    A score is the measurement without the training example less that with all examples (Nguyen et
    al. 2023, equation 1). Every run is repeated N times from its own initialisation and order of
    the data, with the example's weight in the loss set to 0. This takes N + 1 trainings a seed.

    Args:
        posterior: Samples from :func:`tda.train_posterior`.
        objective: The objective of the training.
        train: Examples that were trained on, in their order.
        test: Test examples, in a form of :func:`tda.attribute`.
        chunk: Number of members trained together, on a GPU or where the network is small. Members
            of several seeds are joined if one seed has fewer.

    Returns:
        Scores with dims (seed, checkpoint, train, test), in units of the measurement.

    Raises:
        UserError: The posterior was trained elsewhere, or on another number of examples.
    """
    num_train = len(recorded_training(posterior).order[posterior.seeds[0]][0, 0])
    groups = np.eye(num_train, dtype=bool)
    scores = leave_group_out(posterior, objective, train, test, groups=groups, chunk=chunk)
    train_labels = labels("train", held_examples(posterior, objective, train))
    scores = scores.rename(group="train").rename("loo").assign_coords(train_labels)
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
    """Return scores of groups from retraining: positive = helpful.

    A score is the measurement without the group less that with all examples.

    Args:
        posterior, objective, train, test, chunk: The same as in :func:`leave_one_out`.
        groups: Booleans [G N], True for the examples that a group leaves out.

    Returns:
        Scores with dims (seed, checkpoint, group, test).

    Raises:
        UserError: The posterior was trained elsewhere, or groups do not fit the examples.
    """
    removed_GN = torch.as_tensor(np.asarray(groups, dtype=bool))
    # Member 0 keeps all examples. It is trained again with the others, so that a difference is the
    # removal's and not that of another chunk's rounding.
    weight_RN = torch.cat([torch.ones(1, removed_GN.shape[1]), 1.0 - removed_GN.float()])
    measurement = retrained(posterior, objective, train, test, weights=weight_RN, chunk=chunk)
    scores = measurement.isel(member=slice(1, None)) - measurement.isel(member=0, drop=True)
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
    """Retrain every run with other weights of the examples, and return its measurements.

    Args:
        posterior, objective, train, test, chunk: The same as in :func:`leave_one_out`.
        weights: Weights of the examples' losses [R N]; the mean still divides by the size of a
            batch. Rows of zeros and ones are the subsets of a linear datamodelling score.

    Returns:
        Measurements with dims (seed, checkpoint, member, test).

    Raises:
        UserError: The posterior was trained elsewhere, or weights do not fit the examples.
    """
    training = recorded_training(posterior)
    train_data, test_data = looked_examples(posterior, objective, train, test)
    weight_RN = torch.as_tensor(weights, dtype=training.initial[posterior.seeds[0]].dtype)
    if weight_RN.shape[1:] != (len(train_data),):
        raise UserError(
            f"weights or groups must have one column per training example, {len(train_data)}, not "
            f"{tuple(weight_RN.shape)}"
        )
    by_seed: list[Tensor] = []
    # Larger chunks would be filled up with copies: seeds with dropout are retrained one by one.
    chunk = min(chunk, len(weight_RN) * (1 if training.one_by_one else len(posterior.seeds)))
    for seeds, members in training.together(weight_RN, train_data.y.device, chunk):
        loss_CRM = retrained_losses(
            posterior.template(seeds[0]), objective, training.recipe, members,
            train_data=train_data, test_data=test_data, chunk=chunk,
        )  # fmt: skip
        # [C, seeds · R, M] to one [C R M] for each seed.
        by_seed += loss_CRM.unflatten(1, (len(seeds), len(weight_RN))).movedim(1, 0)
    coords = {"seed": list(posterior.seeds), "checkpoint": list(posterior.checkpoints)}
    return xr.DataArray(
        torch.stack(by_seed).cpu().numpy(), dims=("seed", "checkpoint", "member", "test"),
        coords=coords | labels("test", test_data), name="measurement",
    )  # fmt: skip


def removals(num_train: int, members: range) -> Tensor:
    """Return weights [R N] for some of the 1 + N members of leave-one-out.

    Member 0 is the base run, whose weights are all 1. Member j + 1 lacks example j.
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
    r"""Train members, and return their test losses at the kept checkpoints [C R M].

    The leave-one-out score (Nguyen et al. 2023, equation 1) is
    :math:`L(z; \theta_{\backslash j}) - L(z; \theta)`, positive = helpful. It is the difference of
    two rows of this array, from one initialisation and one order of the data. One retraining
    serves all kept checkpoints.

    Args:
        network: The architecture; it is copied.
        objective: The objective with the per-example loss and the measurement.
        recipe: Hyperparameters.
        members: Members to train, such as those with weights from :func:`removals`.
        train_data: Training examples, on the device to train on.
        test_data: Test examples.
        chunk: Number of members trained together.
        tf32: Whether to allow TensorFloat-32 products on a GPU.
    """
    parts = []
    chunks = train(network, objective, train_data, recipe, members, chunk=chunk, tf32=tf32)
    for _, theta_CRP in chunks:
        at_checkpoints = [
            losses(network, objective, theta_RP, test_data, stacked=chunk > 1)
            for theta_RP in theta_CRP
        ]
        parts.append(torch.stack(at_checkpoints))
    return torch.cat(parts, dim=1)
