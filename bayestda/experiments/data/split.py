"""What the loaders of all tasks return. Importing this file does not import torch."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bayestda.model.examples import Data


@dataclass(frozen=True, eq=False)
class Split:
    """Training and test examples of a task.

    Attributes:
        train, test: The examples; ``index`` are their numbers in the stored files, from 0.
        hash: A fingerprint of both, for the settings of results.
        exact: Whether images are the original ones; False: they went through JPEG.
    """

    train: "Data"
    test: "Data"
    hash: str
    exact: bool = True

    def first(self, num_train: int | None, num_test: int | None) -> "Split":
        """Return the first examples of each split, standardised as before; None: all."""
        if num_train is None and num_test is None:
            return self
        return replace(
            self, train=self.train.take(slice(num_train)), test=self.test.take(slice(num_test)),
            hash=f"{self.hash}-{num_train}-{num_test}",
        )  # fmt: skip
