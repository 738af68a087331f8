"""Train on from given parameters, and measure members with and without each change of the data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bayestda.errors import UserError
from bayestda.model.dropout import draws_masks
from bayestda.model.examples import Data, joined
from bayestda.model.objective import Objective
from bayestda.model.parameters import Parameters
from bayestda.retraining.data_changes import Change, extras
from bayestda.training.loop import chunks, current_losses, run
from bayestda.training.members import Members, data_order
from bayestda.training.recipe import Recipe
from bayestda.training.stacked_mlp import ELEMENTWISE
from bayestda.training.stacking import copies_of, require_stacking, stacks

# Bounds of a chunk of members, see chunk_for; measured with benchmarks/further_training.py.
_CPU_NUMBERS = 2_000_000  # activations of a perceptron's step that stay in the cache
_MOST_MEMBERS = 64


@dataclass(frozen=True)
class Course:
    """Say when further training is measured.

    Attributes:
        steps: Numbers of steps after which to measure, ascending; 0 is before the first step.
        epochs: Numbers of epochs after which to measure, the same times.
        horizons: Sum Σ_t η_t up to each of them.
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
        """Make a course from the epochs or steps of a recipe after which to measure.

        Args:
            recipe: Hyperparameters of the further training, whose epochs bound it.
            num_train: Number of training examples.
            epochs: Numbers of epochs; default the recipe's last one.
            steps: Numbers of steps, instead of epochs.

        Raises:
            UserError: Both or none are given, or one lies before the start or beyond the end.
        """
        if epochs is not None and steps is not None:
            raise UserError("give epochs or steps of further training, not both")
        per_epoch, rates = -(-num_train // recipe.batch_size), recipe.learning_rates(num_train)
        if steps is None:
            epochs = [recipe.epochs] if epochs is None else epochs
            steps = [per_epoch * epoch for epoch in epochs]
        steps = sorted(set(steps))
        if not steps:
            raise UserError("give at least one epoch or step of further training to measure after")
        if steps[0] < 0 or steps[-1] > len(rates):
            raise UserError(
                f"further training has steps 0 to {len(rates)} ({recipe.epochs} epochs of "
                f"{per_epoch}); step {steps[-1] if steps[0] >= 0 else steps[0]} is not one of "
                "them: ask for other epochs or steps, or for a recipe with more epochs"
            )
        sums = np.concatenate([[0.0], np.cumsum(rates)])
        return cls(
            tuple(steps),
            tuple(step / per_epoch for step in steps),
            tuple(float(sums[step]) for step in steps),
        )

    @property
    def coordinates(self) -> dict[str, Any]:
        """Return the coordinates of the dim step."""
        return {
            "step": list(self.steps),
            "epoch": ("step", list(self.epochs)),
            "horizon": ("step", list(self.horizons)),
        }


@dataclass(frozen=True, eq=False)
class GoldStandard:
    """Train one network further, with all of D and with each change of D.

    Attributes:
        network: The network with the given parameters; it is copied.
        objective: The objective with the loss and the measurement.
        recipe: Hyperparameters of the further training.
        course: Times of the measurements.
        chunk: Number of members trained together; None: that of :func:`chunk_for`.
    """

    network: nn.Module
    objective: Objective
    recipe: Recipe
    course: Course
    chunk: int | None = None

    def losses(
        self, seed: int, train: Data, test: Data, change: Change, chosen: range | None = None
    ) -> Tensor:
        """Return measurements [T R M] for one order of the data.

        Args:
            seed: Seed of the order and of dropout masks.
            train: Examples of D.
            test: Examples to measure on.
            change: Groups that members leave out or add.
            chosen: Members to train: 0 is trained with all of D, member j + 1 with group j
                changed. None: all members.
        """
        data = train if change.added is None else joined(train, change.added)
        chosen = range(1 + len(change.groups)) if chosen is None else chosen
        members = self._members(seed, train, change)
        # Of all members, not of the chosen: their rounding must not depend on the choice.
        chunk = balanced(len(members), self._largest_chunk(data))
        parts = []
        if change.how == "delete" and 0 in chosen:
            # The full run alone has this number of examples, so it cannot be stacked with others.
            full = replace(members[torch.tensor([0])], deleted=None)
            parts.append(self._measure(full, data, test, 1))
            chosen = chosen[1:]
        if chosen:
            parts.append(self._measure(members[torch.tensor(chosen)], data, test, chunk))
        return torch.cat(parts, dim=1)

    def _largest_chunk(self, data: Data) -> int:
        """Return the number of members to train together, or refuse the one that was given."""
        chunk = self.chunk or chunk_for(self.network, data, self.recipe)
        if chunk == 1:
            return 1
        if self.chunk is not None:
            require_stacking(self.network, self.objective, data, shared=False)
            return chunk
        return chunk if stacks(self.network, self.objective, data, shared=False) else 1

    def _members(self, seed: int, train: Data, change: Change) -> Members:
        """The full run and the changed ones."""
        initial_1P = Parameters(self.network).read(self.network)[None]
        count = len(train) + len(change.added or ())
        order = data_order(seed, len(train), self.recipe.epochs).to(initial_1P.device)
        ones_RN = initial_1P.new_ones(1, 1).expand(1 + len(change.groups), count)
        batch = train.take(slice(self.recipe.batch_size))
        has_dropout = draws_masks(self.network, self.objective, batch)
        members = Members(initial_1P, order, ones_RN, seed if has_dropout else None)
        if change.how == "delete":
            _check_same_steps(len(train), len(change.groups[0]), self.recipe.batch_size)
            # The full run's row needs some group, which :meth:`losses` does not use.
            groups = [change.groups[0], *change.groups]
            return replace(members, deleted=torch.tensor(groups).to(order))
        extra_RQ, coefficient_RQ = extras(change, len(train))
        return replace(members, extra=extra_RQ.to(order), coefficient=coefficient_RQ.to(initial_1P))

    def _measure(self, members: Members, data: Data, test: Data, chunk: int) -> Tensor:
        """Measurements [T R M] of members, which are trained up to the last step of the course."""
        copies = copies_of(self.network, self.objective, data, stacked=chunk > 1)
        parts = []
        for chosen, padded in chunks(members, chunk):
            measurements = []
            for step, _ in enumerate(run(copies, self.objective, data, self.recipe, padded)):
                if step in self.course.steps:
                    measurements.append(current_losses(copies, self.objective, test))
                if step == self.course.steps[-1]:
                    break
            parts.append(torch.stack(measurements)[:, : chosen.stop - chosen.start])
        return torch.cat(parts, dim=1)


def _check_same_steps(num_train: int, num_deleted: int, batch_size: int) -> None:
    before, after = (-(-count // batch_size) for count in (num_train, num_train - num_deleted))
    if before != after:
        raise UserError(
            f"how='delete' of {num_deleted} of {num_train} examples makes epochs of {after} steps "
            f"instead of {before}, and the missing step would be measured as an effect: choose "
            f"another batch_size than {batch_size}, or how='subtract'"
        )


def balanced(members: int, largest: int) -> int:
    """Return a chunk size of at most ``largest`` for which all chunks are about equally full."""
    return -(-members // -(-members // largest))


def chunk_for(network: nn.Module, data: Data, recipe: Recipe) -> int:
    """Return the number of members to train together that is fastest.

    On a CPU stacked perceptrons take a quarter of the time (benchmarks/further_training.py), if
    the chunk's activations stay in the cache. Other networks, such as CNNs, are slower stacked
    there, and are trained one by one.

    Args:
        network: The network to train.
        data: Training examples, on the device to train on.
        recipe: Hyperparameters of the training.
    """
    if data.y.device.type != "cpu":
        return _MOST_MEMBERS
    layers = [m for m in network.modules() if not list(m.children())]
    stackable = (nn.Linear, nn.Dropout, nn.Flatten, nn.LayerNorm, *ELEMENTWISE)
    if not all(isinstance(layer, stackable) for layer in layers):
        return 1
    widths = sum(layer.out_features for layer in layers if isinstance(layer, nn.Linear))
    numbers = widths * min(recipe.batch_size, len(data))
    return max(1, min(_MOST_MEMBERS, _CPU_NUMBERS // numbers))
