r"""Train a final model further: the gold standard of attribution when only that model is given.

From given parameters :math:`\theta^f`, training goes on with all data, without each left-out
example, or with each added one. All members see one order of the data and one set of dropout
masks. A score is what the change does to the measurement g on a test example z (Wei et al. 2025,
equations 1 to 3):

.. math:: a_i(z) = g(z; \theta^f + \Delta(D_{-i})) - g(z; \theta^f + \Delta(D))

Only measurements are kept, in float64; the forward pass has the network's precision.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from bayestda.model.checks import check_network, check_recipe, listed_seeds
from bayestda.model.examples import Data, labels
from bayestda.model.looks import look
from bayestda.model.objective import Objective
from bayestda.model.parameters import private_copy
from bayestda.retraining.data_changes import Change, checked_change
from bayestda.retraining.gold_standard import Course, GoldStandard
from bayestda.training.posterior import in_memory
from bayestda.training.recipe import Recipe


def further_train(
    network: nn.Module,
    objective: Objective,
    train: Any,
    test: Any,
    recipe: Recipe,
    *,
    left_out: Sequence[int | Sequence[int]] | None = None,
    added: Any = None,
    how: str = "subtract",
    seeds: Sequence[int] = range(10),
    epochs: Sequence[int] | None = None,
    steps: Sequence[int] | None = None,
    chunk: int | None = None,
) -> xr.Dataset:
    """Train a network further with each example or group left out, or added, and measure it.

    This takes ``(len(left_out) + 1) · len(seeds)`` trainings. In a step, the gradient of a member
    that leaves out an example costs one example more than the batch. Batch norm stays in
    evaluation mode.

    Args:
        network: The network with the given parameters. Those that require a gradient are trained
            (of a network with LoRA, the adapters).
        objective: The objective with the loss and the measurement g.
        train: Examples of D, in a form of :func:`tda.attribute`.
        test: Examples to measure on.
        recipe: Hyperparameters; its ``epochs`` bound the training.
        left_out: Positions in ``train``, or groups of them; exclusive with ``added``.
        added: Examples that are not in D, one member each; they enter as +L(z)/n.
        how: Way of leaving out, ``subtract`` or ``delete``
            (:class:`bayestda.retraining.data_changes.Change`).
        seeds: Seeds, each of which draws an order of the data (and dropout masks).
        epochs: Numbers of epochs after which to measure; 0 is before the first step. Default: the
            recipe's last epoch.
        steps: Numbers of steps after which to measure, instead of epochs.
        chunk: Number of members trained together; default: the number that is fastest
            (:func:`bayestda.retraining.gold_standard.chunk_for`).

    Returns:
        ``loss`` with dims (seed, step, left_out or added, test), and ``full`` (seed, step, test)
        of training with all of D. The coordinates ``epoch`` and ``horizon``, the sum of learning
        rates, belong to the dim step.

    Raises:
        UserError: The arguments do not fit together.
    """
    check_network(network, "network")
    check_recipe(recipe)
    seeds = listed_seeds(seeds)
    train_data = in_memory(train, objective, network)
    test_data = in_memory(test, objective, network, measured=True)
    added_data = None if added is None else in_memory(added, objective, network)
    change = checked_change(left_out, added_data, how, len(train_data))
    look(private_copy(network).eval(), objective, train_data, test_data)
    course = Course.of(recipe, len(train_data), epochs, steps)
    gold = GoldStandard(network, objective, recipe, course, chunk)
    by_seed = [gold.losses(seed, train_data, test_data, change) for seed in seeds]
    loss_STRM = torch.stack(by_seed).cpu().numpy()
    return labelled(loss_STRM, course, change, seeds, train_data, test_data)


def labelled(
    loss_STRM: np.ndarray,
    course: Course,
    change: Change,
    seeds: Sequence[int],
    train: Data,
    test: Data,
) -> xr.Dataset:
    """Label measurements, apart for the changed members and the full run, which is member 0.

    Args:
        loss_STRM: Measurements; T times, member 0 first.
        course: Times of the measurements.
        change: Groups of the members.
        seeds: Seeds of the runs.
        train: Examples of D.
        test: Examples that were measured on.

    Returns:
        The dataset that :func:`further_train` describes.
    """
    dims = ("seed", "step", change.dim, "test")
    coords = {"seed": list(seeds), **course.coordinates, **labels("test", test)}
    source = train if change.added is None else change.added
    # Members with one example each are named by it, groups by their number.
    if all(len(group) == 1 for group in change.groups):
        coords[change.dim] = [int(source.index[group[0]]) for group in change.groups]
    else:
        coords[change.dim] = list(range(len(change.groups)))
    loss = xr.DataArray(loss_STRM[:, :, 1:], dims=dims)
    full = xr.DataArray(loss_STRM[:, :, 0], dims=("seed", "step", "test"))
    attrs = {"how": change.how, "num_train": len(train)}
    return xr.Dataset({"loss": loss, "full": full}, coords=coords, attrs=attrs)


def mean_adjusted(further: xr.Dataset) -> xr.DataArray:
    r"""Return each seed's scores less the mean of the members: positive = helpful.

    :math:`g(z; \theta^f + \Delta(D_{-i})) - \frac1l \sum_j g(z; \theta^f + \Delta(D_{-j}))` (Wei
    et al. 2025, equation 13, before its mean over seeds). For added examples the sign is turned,
    because an example that lowers the measurement helps.

    Args:
        further: Measurements from :func:`further_train`.

    Returns:
        Scores with dims (seed, step, left_out or added, test).
    """
    loss = further["loss"]
    return _helpful(further, loss - loss.mean(changed_dim(further)))


def fully_adjusted(further: xr.Dataset) -> xr.DataArray:
    r"""Return each seed's scores less training with all of D: positive = helpful.

    :math:`g(z; \theta^f + \Delta(D_{-i})) - g(z; \theta^f + \Delta(D))` (Wei et al. 2025, equations
    2 and 17, before the mean over seeds). Sign and dims are those of :func:`mean_adjusted`.

    Args:
        further: Measurements from :func:`further_train`.
    """
    return _helpful(further, further["loss"] - further["full"])


def changed_dim(further: xr.Dataset) -> str:
    """Return the name of the members' dim, ``left_out`` or ``added``."""
    return "left_out" if "left_out" in further["loss"].dims else "added"


def _helpful(further: xr.Dataset, difference: xr.DataArray) -> xr.DataArray:
    sign = 1 if changed_dim(further) == "left_out" else -1
    dims = further["loss"].dims
    return (sign * difference).transpose(*dims).rename("score")
