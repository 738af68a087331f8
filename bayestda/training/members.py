"""Members of an ensemble: copies of one network that differ in start, order, weights, or extras."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Members:
    """Copies to train. A leading 1 means: shared by all members.

    Attributes:
        initial: parameters at the start [R P] or [1 P].
        order: positions of training examples, per epoch [R E N] or [1 E N].
        weight: weight of every example in the loss [R N]; 0 removes it and nothing else, as the
            mean still divides by the size of the batch.
        dropout_seed: draws the masks of all steps, the same for all members; None: no dropout.
        extra: positions of examples that a member meets in every batch beside the batch's own
            [R Q].
        coefficient: of their losses [R Q], which are added to the batch's mean loss.
        deleted: positions that are taken out of a member's order, so that later ones move up
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
            if isinstance(value, Tensor) and not len(value) == 1 < len(self)
        }
        return replace(self, **chosen)

    @property
    def num_ordered(self) -> int:
        """Examples in an epoch."""
        return self.order.shape[-1] - (0 if self.deleted is None else self.deleted.shape[1])

    def epoch(self, number: int) -> Tensor:
        """Positions of training examples in the order of an epoch [R N] or [1 N]."""
        order_RN = self.order[:, number]
        if self.deleted is None:
            return order_RN
        kept_RN = (order_RN[..., None] != self.deleted[:, None]).all(-1)
        return order_RN.expand(kept_RN.shape)[kept_RN].unflatten(0, (len(self), -1))


def data_order(seed: int, num_train: int, epochs: int) -> Tensor:
    """A fresh permutation of the training examples for each epoch [1 E N]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(num_train, generator=generator) for _ in range(epochs)])[
        None
    ]
