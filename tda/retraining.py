"""Ground truth by retraining: leave-one-out, groups, subsets, one additional step."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from tda.errors import UserError
from tda.examples import Data, labels
from tda.methods.ats import additional_training_step, step_recipe
from tda.methods.loo import retrained_losses
from tda.objective import Objective
from tda.pace import Pace, paces
from tda.parameters import Parameters, thetas
from tda.posterior import Posterior, Training, in_memory

DRIFT = 0.05  # of the distance travelled: how far a repeated run may end from its checkpoint


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


def additional_step(
    posterior: Posterior, objective: Objective, train: Any, test: Any, *, optimizer: str = "adam"
) -> xr.DataArray:
    """Measurement before less that after one more step on each example: positive = helpful.

    Args:
        posterior, objective, train, test: as in :func:`leave_one_out`.
        optimizer: of the step; ``adam`` is a fresh one, whose first step is lr · sign(gradient).

    Returns:
        Dims (seed, checkpoint, train, test). See :mod:`tda.methods.ats`.
    """
    recipe = step_recipe(recorded_training(posterior).recipe, optimizer)
    held, queries = held_examples(posterior, train), held_examples(posterior, test)

    def score(seed: int, place: int) -> Tensor:
        network = posterior.network(seed, place)
        return additional_training_step(
            network, objective, Parameters(network).read(network), recipe,
            examples=held, test=queries,
        )  # fmt: skip

    scores = _each(posterior, score)
    coords = {**labels("train", held), **labels("test", queries)}
    dims = ("seed", "checkpoint", "train", "test")
    coords |= {"seed": list(posterior.seeds), "checkpoint": list(posterior.checkpoints)}
    return xr.DataArray(scores.cpu().numpy(), dims=dims, coords=coords, name="ats")


def _each(posterior: Posterior, score: Callable[[int, int], Tensor]) -> Tensor:
    places: Sequence[int] = range(len(posterior.checkpoints))
    runs = [torch.stack([score(seed, place) for place in places]) for seed in posterior.seeds]
    return torch.stack(runs)


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


def recorded_paces(posterior: Posterior, objective: Objective, train: Any, seed: int) -> list[Pace]:
    """How far the run of a seed had come at its checkpoints (:func:`tda.pace.paces`).

    Raises:
        UserError: the posterior was trained elsewhere, or on another number of examples.
    """
    training, held = recorded_training(posterior), held_examples(posterior, train)
    num_train = training.order[seed].shape[-1]
    if len(held) != num_train:
        raise UserError(
            f"the training's horizon is that of its {num_train} examples, and train has "
            f"{len(held)}: give the examples that were trained on, or a number for damping"
        )
    weight_1N = torch.ones(1, num_train, dtype=next(posterior.build().parameters()).dtype)
    member = training.members(seed, weight_1N, held.y.device)
    return paces(posterior.build(), objective, held, training.recipe, member)


def held_examples(posterior: Posterior, data: Any) -> Data:
    """All examples as tensors, where and as the network's parameters are."""
    parameter = next(posterior.build().parameters())
    return in_memory(data, parameter.device, parameter.dtype)
