"""Record how samples were trained, so that retraining and replay can repeat it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bayestda.training.members import Members
from bayestda.training.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Training:
    """Record how samples were trained.

    Attributes:
        recipe: Hyperparameters.
        initial: Parameters θ at the start [P], by seed.
        order: Positions of training examples [1 E N], by seed.
        dropout: Whether the network has dropout (:mod:`bayestda.model.dropout`), whose masks then
            follow from the seed.
        apart: Whether networks of different seeds differ in more than θ, so that they cannot be
            trained side by side.
    """

    recipe: Recipe
    initial: Mapping[int, Tensor]
    order: Mapping[int, Tensor]
    dropout: bool = False
    apart: bool = False

    @property
    def one_by_one(self) -> bool:
        """Whether the runs of different seeds are repeated one after the other."""
        return self.dropout or self.apart

    def members(self, seed: int, weight_RN: Tensor, device: torch.device) -> Members:
        """Return members that repeat the run of a seed with other weights of the examples."""
        initial_1P, order = self.initial[seed][None].to(device), self.order[seed].to(device)
        return Members(initial_1P, order, weight_RN.to(device), seed if self.dropout else None)

    def together(
        self, weight_RN: Tensor, device: torch.device, chunk: int
    ) -> Iterator[tuple[tuple[int, ...], Members]]:
        """Yield the members of all seeds, with as many seeds together as ``chunk`` has room for.

        Args:
            weight_RN: Weights of the examples, for the R members of each seed.
            device: The device to train on.
            chunk: Number of members to train together.

        Yields:
            Seeds, and their members, seed by seed.
        """
        seeds = tuple(self.initial)
        # Only members of one seed share dropout masks, and frozen weights that are drawn.
        count = 1 if self.one_by_one else max(1, chunk // len(weight_RN))
        for start in range(0, len(seeds), count):
            group = seeds[start : start + count]
            parts = [self.members(seed, weight_RN, device) for seed in group]
            # A single seed's members keep sharing their initialisation and order, with a dim of 1.
            yield group, parts[0] if len(parts) == 1 else _concatenate(parts)


def _concatenate(parts: Sequence[Members]) -> Members:
    """Members of several seeds as one; what a seed's members share is repeated for each."""
    return Members(
        torch.cat([part.initial.expand(len(part), -1) for part in parts]),
        torch.cat([part.order.expand(len(part), -1, -1) for part in parts]),
        torch.cat([part.weight for part in parts]),
    )
