"""Measure every run, and estimate by how much removing examples would shift the measurement.

A *shift* is the measurement of a run without an example or group less that of the run as it is, to
first order in the removal. It has the measurement's unit and scale, as :func:`tda.leave_one_out`.
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
from bayestda.model.looks import look
from bayestda.model.measuring import measuring
from bayestda.model.objective import Measurement, Objective
from bayestda.model.parameters import first_trained, thetas
from bayestda.retraining.unrolling import unrolled_changes
from bayestda.scores.attribution import attribute
from bayestda.scores.groups import group_scores
from bayestda.scores.scales import SIGN, as_shifts, scale_of
from bayestda.training.loop import losses
from bayestda.training.posterior import Posterior
from bayestda.training.recorded import held_examples, looked_examples, recorded_training


def measure(
    posterior: Posterior,
    objective: Objective,
    queries: Any,
    *,
    measurement: str | Measurement | None = None,
    chunk: int = 256,
) -> xr.DataArray:
    """Return the measurement of every sample on every query, in float64.

    Samples that differ in more than their trainable parameters, such as batch norm's statistics,
    are evaluated one by one.

    Args:
        posterior: Samples of θ.
        objective: The objective of the training.
        queries: Test examples, in a form of :func:`tda.attribute`.
        measurement: A name or function, see :func:`bayestda.model.measuring.measuring`; None: the
            objective's own measurement.
        chunk: Number of runs evaluated together, stacked.

    Returns:
        Measurements with dims (seed, checkpoint, test).

    Raises:
        UserError: The measurement is unknown, or queries do not fit the network.
    """
    objective = measuring(objective, measurement)
    test_data = held_examples(posterior, objective, queries, measured=True)
    look(posterior.network(posterior.seeds[0], 0), objective, None, test_data)
    rows = []
    for place in range(len(posterior.checkpoints)):
        for start in range(0, len(posterior.seeds), chunk):
            seeds = posterior.seeds[start : start + chunk]
            networks = [posterior.network(seed, place) for seed in seeds]
            rows.append(_losses(networks, objective, test_data))
    values = torch.cat(rows).unflatten(0, (len(posterior.checkpoints), len(posterior.seeds)))
    return _labelled(values.transpose(0, 1), posterior, labels("test", test_data), "measurement")


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
    r"""Return by how much removing each example, or group, shifts the measurement of every run.

    ``unrolled`` is the derivative of the whole run (:mod:`bayestda.retraining.unrolling`), exact to
    first order in the removed weight. Nothing is tuned, and memory does not grow with the steps.

    Every other method is one of :func:`tda.attribute`, scaled by :func:`tda.as_shifts`:
    ``influence`` (Gauss-Newton) and ``influence_hessian``, which are :math:`\frac1N \nabla m^\top
    (C + \lambda)^{-1} \nabla\ell_k`; ``influence_ekfac``; ``flow``, the horizon filter; and others.
    The training's weight decay belongs into their damping. (For the filter that
    :func:`tda.attribute` calls ``unrolled``, call :func:`tda.as_shifts` yourself.)

    Args:
        posterior: Samples; for ``unrolled`` from :func:`tda.train_posterior`, without dropout.
        objective: The objective of the training.
        train: Examples that were trained on, in their order.
        queries: Test examples, in a form of :func:`tda.attribute`.
        method: Name of the method, see above.
        measurement: A name or function, see :func:`bayestda.model.measuring.measuring`; None: the
            objective's own measurement.
        groups: Booleans [G N], True for the examples that a group removes. The shift of a group is
            the sum over its members within each run. None: each example is removed in turn.
        chunk: Number of pairs of a run and an example that are stacked in a step of ``unrolled``.
            Changes speed and memory, which is chunk · P · (1 + moments of the optimiser) numbers
            and the activations of ``chunk`` batches.
        settings: Settings of the method, such as ``damping``.

    Returns:
        Shifts with dims (seed, checkpoint, train or group, test), the measurement without less
        that with the examples.

    Raises:
        UserError: The method has no absolute scale. With ``unrolled``: the posterior was trained
            elsewhere, with dropout, or on other examples.
    """
    objective = measuring(objective, measurement)
    if method != "unrolled":
        scale_of(method, 1, None)  # refuses methods without a scale before any work is done
        scores = as_shifts(
            attribute(posterior, objective, train, queries, method=method, **settings)
        )
        return scores if groups is None else group_scores(scores, groups).assign_attrs(scores.attrs)
    if settings:
        raise UserError(
            f"unrolled differentiation takes no {next(iter(settings))!r}: it has no settings"
        )
    if recorded_training(posterior).dropout:
        raise UserError("a run with dropout cannot be unrolled: train without, or retrain")
    train_data, test_data = looked_examples(posterior, objective, train, queries)
    removed_RN = _removed(groups, len(train_data)).to(
        first_trained(posterior.template(posterior.seeds[0]))
    )
    # A removal moves an example's weight from 1 towards 0, hence the sign.
    values = unrolled_changes(posterior, objective, train_data, test_data, -removed_RN, chunk=chunk)
    rows = labels("train", train_data) if groups is None else {"group": np.arange(len(removed_RN))}
    return _labelled(
        values, posterior, rows | labels("test", test_data), "shifts", method="unrolled", sign=SIGN
    )


def _losses(networks: Sequence[nn.Module], objective: Objective, data: Data) -> Tensor:
    """Measurements [S M] of networks, stacked where they differ in θ alone."""
    # Stacked copies share all that is not in θ: buffers and frozen weights.
    theta_SP = thetas(networks)
    if all(_differ_in_theta_alone(networks[0], network) for network in networks[1:]):
        return losses(networks[0], objective, theta_SP, data, stacked=len(networks) > 1)
    pairs = zip(networks, theta_SP.split(1), strict=True)
    return torch.cat([losses(network, objective, theta_1P, data) for network, theta_1P in pairs])


def _differ_in_theta_alone(first: nn.Module, other: nn.Module) -> bool:
    """Whether frozen parameters and buffers are equal."""
    tensors = other.state_dict(keep_vars=True)
    return all(
        value.requires_grad or value is tensors[name] or value.equal(tensors[name])
        for name, value in first.state_dict(keep_vars=True).items()
    )


def _removed(groups: Any, num_train: int) -> Tensor:
    """Examples that each member removes [R N], as zeros and ones."""
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
    further_dims = [key for key in coords if not key.endswith("_label")]
    samples = {"seed": list(posterior.seeds), "checkpoint": list(posterior.checkpoints)}
    return xr.DataArray(
        values.cpu().numpy(), dims=(*samples, *further_dims), coords=samples | dict(coords),
        name=name, attrs=attrs,
    )  # fmt: skip
