"""Measurements of every run, and by how much removing examples would shift them.

A *shift* is the measurement of a run without an example or group less that of the run as it is, to
first order in the removal, in the measurement's own unit: the scale of :func:`tda.leave_one_out`.
Letters: S seeds, C checkpoints, N train, G groups, R members (examples or groups), M test.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from bayestda.errors import UserError
from bayestda.model.examples import Data, labels
from bayestda.model.measuring import measuring
from bayestda.model.objective import Measurement, Objective
from bayestda.model.parameters import thetas
from bayestda.model.precision import matmul_precision
from bayestda.retraining.unrolling import Unrolled, in_blocks
from bayestda.scores.attribution import attribute
from bayestda.scores.groups import group_scores
from bayestda.scores.scales import SIGN, as_shifts, scale_of
from bayestda.training.loop import losses
from bayestda.training.optimizers import steps
from bayestda.training.posterior import Posterior
from bayestda.training.recorded import check_same_runs, held_examples, recorded_training


def measure(
    posterior: Posterior,
    objective: Objective,
    queries: Any,
    *,
    measurement: str | Measurement | None = None,
    chunk: int = 256,
) -> xr.DataArray:
    """The measurement of every sample on every query, in float64.

    Samples that differ in more than their trainable parameters, such as batch norm's statistics,
    are evaluated one by one.

    Args:
        posterior: samples of θ.
        objective, queries: as ``test`` of :func:`tda.attribute`.
        measurement: see :func:`bayestda.model.objective.measuring`; None: the objective's own.
        chunk: runs evaluated together, stacked.

    Returns:
        Dims (seed, checkpoint, test).
    """
    asked, held = measuring(objective, measurement), held_examples(posterior, queries)
    rows = []
    for place in range(len(posterior.checkpoints)):
        for start in range(0, len(posterior.seeds), chunk):
            seeds = posterior.seeds[start : start + chunk]
            rows.append(_losses([posterior.network(seed, place) for seed in seeds], asked, held))
    values = torch.cat(rows).unflatten(0, (len(posterior.checkpoints), len(posterior.seeds)))
    return _labelled(values.transpose(0, 1), posterior, labels("test", held), "measurement")


def shifts(
    posterior: Posterior,
    objective: Objective,
    train: Any,
    queries: Any,
    *,
    method: str = "unrolled",
    measurement: str | Measurement | None = None,
    groups: Any = None,
    chunk: int = 3000,
    **settings: Any,
) -> xr.DataArray:
    r"""By how much removing each example, or group, shifts the measurement of every run.

    ``unrolled`` is the derivative of the whole run (:mod:`bayestda.retraining.unrolling`), exact to
    first order in the removed weight: nothing is tuned, and memory does not grow with the steps.
    Every other method is one of :func:`tda.attribute` by :func:`as_shifts`, such as
    ``influence`` (Gauss-Newton) and ``influence_hessian``, :math:`\frac1N \nabla m^\top
    (C + \lambda)^{-1} \nabla\ell_k`; ``influence_ekfac``; ``flow``, the horizon filter. The
    training's weight decay belongs into their damping. (The filter that :func:`tda.attribute` calls
    ``unrolled`` is had by :func:`as_shifts`.)

    Args:
        posterior: for ``unrolled`` from :func:`tda.train_posterior`, without dropout.
        objective, train, queries: as in :func:`tda.attribute`; ``train`` is what was trained on.
        method: see above.
        measurement: see :func:`bayestda.model.objective.measuring`; None: the objective's own.
        groups: booleans [G N], True for what a group removes. Shifts of a group are the sum over
            its members within each run; None: each example is removed in turn.
        chunk: pairs of a run and an example that go stacked through a step. Speed and memory:
            chunk · P · (1 + moments of the optimiser) numbers, and the activations of chunk
            batches. ``unrolled`` only.
        settings: of the method, such as ``damping``.

    Returns:
        Dims (seed, checkpoint, train or group, test): the measurement without less that with.

    Raises:
        UserError: the method has no absolute scale; or for ``unrolled``: the posterior was trained
            elsewhere, with dropout, or on other examples.
    """
    asked = measuring(objective, measurement)
    if method != "unrolled":
        scale_of(method, 1, None)
        scores = attribute(posterior, asked, train, queries, method=method, **settings)
        found = as_shifts(scores)
        return found if groups is None else group_scores(found, groups).assign_attrs(found.attrs)
    if settings:
        raise UserError(
            f"unrolled differentiation takes no {next(iter(settings))!r}: it has no settings"
        )
    if recorded_training(posterior).dropout:
        raise UserError("a run with dropout cannot be unrolled: train without, or retrain")
    held, asked_of = held_examples(posterior, train), held_examples(posterior, queries)
    removed_RN = _removed(groups, len(held)).to(next(posterior.build().parameters()))
    values = _unrolled(posterior, asked, (held, asked_of), removed_RN, chunk)
    row = labels("train", held) if groups is None else {"group": np.arange(len(removed_RN))}
    return _labelled(
        values, posterior, row | labels("test", asked_of), "shifts", method="unrolled", sign=SIGN
    )


@matmul_precision(tf32=False)
def _unrolled(
    posterior: Posterior,
    objective: Objective,
    data: tuple[Data, Data],
    removed_RN: Tensor,
    chunk: int,
) -> Tensor:
    """Shifts [S C R M], some runs and members at a time."""
    sizes = (len(posterior.seeds), len(posterior.checkpoints), len(removed_RN), len(data[1]))
    values = torch.empty(sizes, dtype=torch.float64)
    for runs, members in in_blocks(len(removed_RN), len(posterior.seeds), chunk):
        found = _unrolled_runs(posterior, objective, data, runs, -removed_RN[members])
        values[runs, :, members] = found.cpu()
    return values


def _unrolled_runs(
    posterior: Posterior,
    objective: Objective,
    data: tuple[Data, Data],
    runs: slice,
    direction_RN: Tensor,
) -> Tensor:
    """Shifts [S C R M] of some runs and members."""
    training, seeds = recorded_training(posterior), posterior.seeds[runs]
    initial_SP = torch.stack([training.initial[seed] for seed in seeds]).to(direction_RN)
    order = torch.cat([training.order[seed] for seed in seeds]).to(direction_RN.device)
    unrolled = Unrolled(posterior.build(), objective, training.recipe, initial_SP, direction_RN)
    kept: list[Tensor] = []
    for step in steps(training.recipe, order):
        unrolled.step(step, data[0])
        if step.kept:
            check_same_runs(posterior, seeds, len(kept), unrolled.theta_SP, initial_SP)
            kept.append(unrolled.changes(data[1]))
    return torch.stack(kept, dim=1)


def _losses(networks: Sequence[nn.Module], objective: Objective, data: Data) -> Tensor:
    """Measurements [S M] of networks, stacked where they differ in θ alone."""
    theta_SP = thetas(networks)
    if all(_differ_in_theta_alone(networks[0], network) for network in networks[1:]):
        return losses(networks[0], objective, theta_SP, data, stacked=len(networks) > 1)
    pairs = zip(networks, theta_SP.split(1), strict=True)
    return torch.cat([losses(network, objective, theta_1P, data) for network, theta_1P in pairs])


def _differ_in_theta_alone(first: nn.Module, other: nn.Module) -> bool:
    """Whether frozen parameters and buffers are equal."""
    held = other.state_dict(keep_vars=True)
    return all(
        value.requires_grad or value is held[name] or value.equal(held[name])
        for name, value in first.state_dict(keep_vars=True).items()
    )


def _removed(groups: Any, num_train: int) -> Tensor:
    """What each member removes [R N]."""
    if groups is None:
        return torch.eye(num_train)
    removed_GN = np.asarray(groups)
    if removed_GN.dtype != bool or removed_GN.shape[1:] != (num_train,):
        raise UserError(
            f"groups must be booleans [G, {num_train}], one column per training example, not "
            f"{removed_GN.dtype} {removed_GN.shape}"
        )
    return torch.from_numpy(removed_GN).float()


def _labelled(
    values: Tensor, posterior: Posterior, coords: Mapping[str, Any], name: str, **attrs: str
) -> xr.DataArray:
    """Values [S C ... M] with the posterior's coordinates and those of further dims, in order."""
    further = [key for key in coords if not key.endswith("_label")]
    both = {"seed": list(posterior.seeds), "checkpoint": list(posterior.checkpoints)}
    return xr.DataArray(
        values.cpu().numpy(), dims=(*both, *further), coords=both | dict(coords), name=name,
        attrs=attrs,
    )  # fmt: skip
