"""What both sides of a row have in common."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from peer_cases import Case
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset


@dataclass(frozen=True)
class Settings:
    """Of one case.

    Attributes:
        damping: λ.
        tolerance: relative residual of conjugate gradients.
        cg_steps: for a peer that has no tolerance.
        lissa_damping: λ of LiSSA.
        lissa_scale: c, more than half of the largest eigenvalue of any batch's H + λ.
        lissa_steps: of one batch each.
        lissa_batch: examples of a batch.
        projection: k of TRAK, below N.
        rank: of approximations by few eigenvectors.
    """

    damping: float
    tolerance: float
    cg_steps: int
    lissa_damping: float
    lissa_scale: float
    lissa_steps: int
    lissa_batch: int
    projection: int = 64
    rank: int = 50


SETTINGS = {
    "digits MLP": Settings(
        0.1, 1e-5, cg_steps=30,
        lissa_damping=0.1, lissa_scale=4.0, lissa_steps=300, lissa_batch=150,
    ),
    "MNIST3 CNN2": Settings(
        0.1, 1e-5, cg_steps=30,
        lissa_damping=10.0, lissa_scale=200.0, lissa_steps=100, lissa_batch=15,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Projected:
    """TRAK's scores, and what gives the random projection [P k] that they hold for."""

    scores_NM: Tensor
    projection: Callable[[], Tensor]


Work = Callable[[], Tensor | Projected]


def settings(case: Case) -> Settings:
    """Of the case's name."""
    return SETTINGS[case.name]


def loader(data: tuple[Tensor, Tensor], batch: int | None = None) -> DataLoader:
    """All examples in one batch, unless told otherwise."""
    return DataLoader(TensorDataset(*data), batch_size=batch or len(data[1]))


def batches(data: tuple[Tensor, Tensor], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Slices of the examples."""
    return zip(*(part.split(size) for part in data), strict=True)
