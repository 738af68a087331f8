"""Describe the members of an ensemble: how copies of one network differ in their training."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Members:
    """Describe copies to train; a leading dim of 1 is shared by all members.

    Attributes:
        initial: Parameters at the start [R P] or [1 P].
        order: Positions of training examples in each epoch [R E N] or [1 E N].
        weight: Weight of every example in the loss [R N]. A weight of 0 removes the example and
            changes nothing else, as the mean still divides by the size of the batch.
        dropout_seed: Seed of the masks of all steps, shared by all members; None: no dropout.
        extra: Positions of examples that a member meets in every batch, besides the batch's own
            [R Q].
        coefficient: Factors of the extra examples' losses, which are added to the batch's mean
            loss [R Q].
        deleted: Positions that are taken out of a member's order, so that later ones move up
            [R D].
    """

    initial: Tensor
    order: Tensor
    weight: Tensor
    dropout_seed: int | None = None
    extra: Tensor | None = None
    coefficient: Tensor | None = None
    deleted: Tensor | None = None

    def __len__(self) -> int:
        return len(self.weight)

    def __getitem__(self, members: Tensor | slice) -> "Members":
        chosen: dict[str, Any] = {
            name: value[members]
            for name, value in vars(self).items()
            # Tensors that all members share, with a leading 1, stay as they are.
            if isinstance(value, Tensor) and not len(value) == 1 < len(self)
        }
        return replace(self, **chosen)

    @property
    def shared(self) -> bool:
        """Return whether all members see the same examples."""
        return len(self.order) == 1 and self.extra is None and self.deleted is None

    @property
    def num_ordered(self) -> int:
        """Return the number of examples in an epoch."""
        return self.order.shape[-1] - (0 if self.deleted is None else self.deleted.shape[1])

    def epoch(self, number: int) -> Tensor:
        """Return the positions of training examples in the order of an epoch [R N] or [1 N]."""
        order_RN = self.order[:, number]
        if self.deleted is None:
            return order_RN
        kept_RN = (order_RN[..., None] != self.deleted[:, None]).all(-1)
        return order_RN.expand(kept_RN.shape)[kept_RN].unflatten(0, (len(self), -1))


def data_order(seed: int, num_train: int, epochs: int) -> Tensor:
    """Return a fresh random permutation of the training examples for each epoch [1 E N]."""
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(num_train, generator=generator) for _ in range(epochs)]
    return torch.stack(orders)[None]
