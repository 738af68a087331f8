r"""Further training: the gold standard of attribution when only a final model is given.

From given parameters :math:`\theta^f`, training goes on with all data, without each left-out
example, or with each added one, in one order of the data and with one set of dropout masks. What
that does to the measurement g on a test example z (Wei et al. 2025, equations 1 to 3):

.. math:: a_i(z) = g(z; \theta^f + \Delta(D_{-i})) - g(z; \theta^f + \Delta(D))

Only measurements are kept, in float64 (the forward pass is in the network's precision).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from bayestda.errors import UserError
from bayestda.model.dropout import draws_masks
from bayestda.model.examples import Data, joined, labels
from bayestda.model.objective import Objective
from bayestda.model.parameters import Parameters
from bayestda.retraining.data_changes import Change, asked, extras
from bayestda.training.loop import chunks, current_losses, run
from bayestda.training.members import Members, data_order
from bayestda.training.posterior import in_memory
from bayestda.training.recipe import Recipe
from bayestda.training.stacked_mlp import ELEMENTWISE
from bayestda.training.stacking import copies_of

SMALL = 2_000_000  # numbers that a step of a perceptron touches; measured, see chunk_for


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
    """Measurements after further training with, and without or with more, each example or group.

    ``(len(left_out) + 1) · len(seeds)`` trainings. A step's gradient of a left-out member costs
    one example more than the batch. Batch norm stays as it is in evaluation mode.

    Args:
        network: with the given parameters; what requires a gradient is trained (of a network with
            LoRA, the adapters).
        objective: loss, and the measurement g.
        train, test: D and the examples to measure on, as :func:`tda.attribute` takes them.
        recipe: optimiser, rate, batch size; its ``epochs`` bound the training.
        left_out: positions in ``train``, or groups of them; exclusive with ``added``.
        added: examples that are not in D, one member each; they enter as +L(z)/n.
        how: of leaving out: ``subtract`` or ``delete``, see :class:`Change`.
        seeds: each draws an order of the data (and dropout masks).
        epochs: after which to measure; default the last one. 0 is before the first step.
        steps: the same in steps instead.
        chunk: members trained together; default: what was measured to be fastest.

    Returns:
        ``loss`` with dims (seed, step, left_out, test), or ``added`` for left_out, and ``full``
        (seed, step, test) of training with all of D. Coordinates of step: ``epoch`` and
        ``horizon``, the sum of learning rates.

    Raises:
        UserError: what is given does not fit together.
    """
    parameter = next(network.parameters())
    held, queries = (in_memory(data, parameter.device, parameter.dtype) for data in (train, test))
    extra = None if added is None else in_memory(added, parameter.device, parameter.dtype)
    change = asked(left_out, extra, how, len(held))
    course = Course.of(recipe, len(held), epochs, steps)
    gold = GoldStandard(network, objective, recipe, course, chunk)
    by_seed = [gold.losses(seed, held, queries, change) for seed in seeds]
    loss_STRM = torch.stack(by_seed).cpu().numpy()
    return labelled(loss_STRM, course, change, seeds, held, queries)


@dataclass(frozen=True)
class Course:
    """When further training is measured.

    Attributes:
        steps: after which steps, ascending; 0 is before the first.
        epochs: the same in epochs.
        horizons: Σ_t η_t until then.
    """

    steps: tuple[int, ...]
    epochs: tuple[float, ...]
    horizons: tuple[float, ...]

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        num_train: int,
        epochs: Sequence[int] | None = None,
        steps: Sequence[int] | None = None,
    ) -> "Course":
        """Measurements after epochs or steps of a recipe.

        Raises:
            UserError: both are given, or none, or one lies beyond the recipe's end or before its
                start.
        """
        if epochs is not None and steps is not None:
            raise UserError("give epochs or steps of further training, not both")
        per_epoch, rates = -(-num_train // recipe.batch_size), recipe.learning_rates(num_train)
        if steps is None:
            epochs = [recipe.epochs] if epochs is None else epochs
            steps = [per_epoch * epoch for epoch in epochs]
        chosen = sorted(set(steps))
        if not chosen:
            raise UserError("give at least one epoch or step of further training to measure after")
        if chosen[0] < 0 or chosen[-1] > len(rates):
            raise UserError(
                f"further training has steps 0 to {len(rates)} ({recipe.epochs} epochs of "
                f"{per_epoch}); step {chosen[-1] if chosen[0] >= 0 else chosen[0]} is not one of "
                "them: ask for other epochs or steps, or for a recipe with more epochs"
            )
        sums = np.concatenate([[0.0], np.cumsum(rates)])
        return cls(
            tuple(chosen),
            tuple(step / per_epoch for step in chosen),
            tuple(float(sums[step]) for step in chosen),
        )

    @property
    def coordinates(self) -> dict[str, Any]:
        """Of the dim step."""
        return {
            "step": list(self.steps),
            "epoch": ("step", list(self.epochs)),
            "horizon": ("step", list(self.horizons)),
        }


@dataclass(frozen=True, eq=False)
class GoldStandard:
    """Further training of one network.

    Attributes:
        network: with the given parameters.
        objective, recipe: how it is trained on.
        course: when it is measured.
        chunk: members trained together; None: see :func:`chunk_for`.
    """

    network: nn.Module
    objective: Objective
    recipe: Recipe
    course: Course
    chunk: int | None = None

    def losses(
        self, seed: int, train: Data, test: Data, change: Change, chosen: range | None = None
    ) -> Tensor:
        """Measurements [T R M] of one order of the data.

        Args:
            seed: of the order, and of dropout masks.
            train, test: D and the examples to measure on.
            change: what members leave out or add.
            chosen: members to train; member 0 is trained with all of D, member j + 1 with group j
                changed. None: all.
        """
        data = train if change.added is None else joined(train, change.added)
        chosen = range(1 + len(change.groups)) if chosen is None else chosen
        everyone = self._members(seed, train, change)
        chunk = self.chunk or chunk_for(self.network, data, self.recipe)
        chunk = balanced(len(everyone), chunk)  # of all: rounding does not depend on the chosen
        parts = []
        if change.how == "delete" and 0 in chosen:  # the only one with this number of examples
            full = replace(everyone[torch.tensor([0])], deleted=None)
            parts.append(self._measured(full, data, test, 1))
            chosen = chosen[1:]
        if chosen:
            parts.append(self._measured(everyone[torch.tensor(chosen)], data, test, chunk))
        return torch.cat(parts, dim=1)

    def _members(self, seed: int, train: Data, change: Change) -> Members:
        """The full run and the changed ones."""
        initial_1P = Parameters(self.network).read(self.network)[None]
        count = len(train) + len(change.added or ())
        order = data_order(seed, len(train), self.recipe.epochs).to(initial_1P.device)
        ones_RN = initial_1P.new_ones(1, 1).expand(1 + len(change.groups), count)
        batch = train.take(slice(self.recipe.batch_size))
        has_dropout = draws_masks(self.network, self.objective, batch)
        everyone = Members(initial_1P, order, ones_RN, seed if has_dropout else None)
        if change.how == "delete":
            _check_same_steps(len(train), len(change.groups[0]), self.recipe.batch_size)
            groups = [change.groups[0], *change.groups]  # whatever is in the full run's place
            return replace(everyone, deleted=torch.tensor(groups).to(order))
        extra_RQ, coefficient_RQ = extras(change, len(train))
        return replace(
            everyone, extra=extra_RQ.to(order), coefficient=coefficient_RQ.to(initial_1P)
        )

    def _measured(self, members: Members, data: Data, test: Data, chunk: int) -> Tensor:
        copies = copies_of(self.network, self.objective, stacked=chunk > 1)
        wanted, parts = set(self.course.steps), []
        for chosen, padded in chunks(members, chunk):
            kept = []
            for step, _ in enumerate(run(copies, self.objective, data, self.recipe, padded)):
                if step in wanted:
                    kept.append(current_losses(copies, self.objective, test))
                if step == self.course.steps[-1]:
                    break
            parts.append(torch.stack(kept)[:, : chosen.stop - chosen.start])
        return torch.cat(parts, dim=1)


def _check_same_steps(num_train: int, num_deleted: int, batch_size: int) -> None:
    before, after = (-(-count // batch_size) for count in (num_train, num_train - num_deleted))
    if before != after:
        raise UserError(
            f"how='delete' of {num_deleted} of {num_train} examples makes epochs of {after} steps "
            f"instead of {before}, which would be the effect measured: take another batch_size "
            f"than {batch_size}, or how='subtract'"
        )


def balanced(members: int, largest: int) -> int:
    """Members a chunk, so that chunks are equally full and none is larger than asked for."""
    return -(-members // -(-members // largest))


def chunk_for(network: nn.Module, data: Data, recipe: Recipe) -> int:
    """Members to train together: on a CPU perceptrons some at a time, other networks one by one.

    Stacked perceptrons take a quarter of the time (benchmarks/further_training.py); the chunk is
    what keeps their activations in the cache. A stacked CNN would be slower there.
    """
    if data.y.device.type != "cpu":
        return 64
    layers = [m for m in network.modules() if not list(m.children())]
    stackable = (nn.Linear, nn.Dropout, nn.Flatten, nn.LayerNorm, *ELEMENTWISE)
    if not all(isinstance(layer, stackable) for layer in layers):
        return 1
    widths = sum(layer.out_features for layer in layers if isinstance(layer, nn.Linear))
    return max(1, min(64, SMALL // (widths * min(recipe.batch_size, len(data)))))


def labelled(
    loss_STRM: np.ndarray,
    course: Course,
    change: Change,
    seeds: Sequence[int],
    train: Data,
    test: Data,
) -> xr.Dataset:
    """Measurements of the members and, apart, of the full run, which is member 0."""
    dims = ("seed", "step", change.dim, "test")
    coords = {"seed": list(seeds), **course.coordinates, **labels("test", test)}
    source = train if change.added is None else change.added
    single = all(len(group) == 1 for group in change.groups)
    names = [int(source.index[group[0]]) for group in change.groups]
    coords[change.dim] = names if single else list(range(len(change.groups)))
    loss = xr.DataArray(loss_STRM[:, :, 1:], dims=dims)
    full = xr.DataArray(loss_STRM[:, :, 0], dims=("seed", "step", "test"))
    attrs = {"how": change.how, "num_train": len(train)}
    return xr.Dataset({"loss": loss, "full": full}, coords=coords, attrs=attrs)


def mean_adjusted(further: xr.Dataset) -> xr.DataArray:
    r"""Scores of each seed, less the mean of the members: positive = helpful.

    :math:`g(z; \theta^f + \Delta(D_{-i})) - \frac1l \sum_j g(z; \theta^f + \Delta(D_{-j}))` (Wei
    et al. 2025, equation 13, before its mean over seeds). For added examples the sign is turned:
    those help that lower the measurement.

    Returns:
        Dims (seed, step, left_out, test).
    """
    loss = further["loss"]
    return _helpful(further, loss - loss.mean(changed_dim(further)))


def fully_adjusted(further: xr.Dataset) -> xr.DataArray:
    r"""Scores of each seed, less training with all of D: positive = helpful.

    :math:`g(z; \theta^f + \Delta(D_{-i})) - g(z; \theta^f + \Delta(D))` (Wei et al. 2025, equations
    2 and 17, before the mean over seeds). Sign and dims as in :func:`mean_adjusted`.
    """
    return _helpful(further, further["loss"] - further["full"])


def changed_dim(further: xr.Dataset) -> str:
    """``left_out`` or ``added``."""
    return "left_out" if "left_out" in further["loss"].dims else "added"


def _helpful(further: xr.Dataset, difference: xr.DataArray) -> xr.DataArray:
    sign = 1 if changed_dim(further) == "left_out" else -1
    dims = further["loss"].dims
    return (sign * difference).transpose(*dims).rename("score")
