"""Describe how members of further training change the data D: leave examples out, or add some."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bayestda.errors import UserError
from bayestda.model.examples import Data

HOW = ("subtract", "delete")


@dataclass(frozen=True, eq=False)
class Change:
    """Describe how members change the data D, with one group of examples for each member.

    Attributes:
        groups: Positions of each group, one or more: in D, or in ``added`` if that is given.
        added: Examples that are not in D; None: groups are left out of D.
        how: Way of leaving out. ``subtract`` subtracts L(z_i)/n from every batch's mean loss, so
            that batches stay as they are; over an epoch this cancels z_i's weight in the mean.
            ``delete`` takes z_i's position out of the order, which shifts all later batches.
    """

    groups: Sequence[Sequence[int]]
    added: Data | None = None
    how: str = "subtract"

    @property
    def dim(self) -> str:
        """Return the name of the groups' dim, ``left_out`` or ``added``."""
        return "left_out" if self.added is None else "added"


def checked_change(
    left_out: Sequence[int | Sequence[int]] | None, added: Data | None, how: str, num_train: int
) -> Change:
    """Return the change of D that a user asked for.

    Args:
        left_out: Positions in D, or groups of them; exclusive with ``added``.
        added: Examples that are not in D.
        how: Way of leaving out, ``subtract`` or ``delete``.
        num_train: Number of examples in D.

    Raises:
        UserError: Neither or both are given, or groups do not fit.
    """
    if (left_out is None) == (added is None):
        raise UserError("give either left_out= (positions in train) or added= (new examples)")
    if how not in HOW:
        raise UserError(f"how={how!r} is unknown: choose one of {', '.join(HOW)}")
    if added is not None:
        if how == "delete":
            raise UserError("added examples cannot be deleted: leave out how=")
        return Change([[position] for position in range(len(added))], added)
    groups = [[int(position) for position in np.atleast_1d(item)] for item in left_out or ()]
    _check_groups(groups, how, num_train)
    return Change(groups, None, how)


def _check_groups(groups: list[list[int]], how: str, num_train: int) -> None:
    if not groups or not all(groups):
        raise UserError(
            "left_out or one of its groups is empty: give at least one position in each"
        )
    for group in groups:
        if len(set(group)) < len(group) or not all(0 <= p < num_train for p in group):
            raise UserError(
                f"left_out has the group {group}: positions must differ and lie between 0 and "
                f"{num_train - 1}"
            )
    if how == "delete" and len({len(group) for group in groups}) > 1:
        raise UserError('how="delete" needs groups of one size: call once for each size')


def extras(change: Change, num_train: int) -> tuple[Tensor, Tensor]:
    """Return positions and coefficients [R Q] of the examples that members meet with every batch.

    Member 0, with all of D, meets none. Smaller groups are filled up with position 0 and
    coefficient 0, so that all members use the same kernels and the same dropout masks.

    Args:
        change: The members' groups.
        num_train: Number n of examples in D.
    """
    widest = max(len(group) for group in change.groups)
    # Added examples stand behind those of D, and enter with +1/n instead of −1/n.
    offset, sign = (0, -1.0) if change.added is None else (num_train, 1.0)
    position_RQ = torch.zeros(1 + len(change.groups), widest, dtype=torch.int64)
    coefficient_RQ = torch.zeros(position_RQ.shape, dtype=torch.float64)
    for row, group in enumerate(change.groups, start=1):
        position_RQ[row, : len(group)] = torch.tensor(list(group)) + offset
        coefficient_RQ[row, : len(group)] = sign / num_train
    return position_RQ, coefficient_RQ
