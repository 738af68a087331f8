"""How one model is trained."""

from dataclasses import asdict, dataclass
from math import inf
from numbers import Integral

from bayestda.errors import UserError

OPTIMIZERS = ("sgd", "adam", "adamw")


@dataclass(frozen=True)
class Recipe:
    """How one model is trained: Adam or SGD on the mean loss of each batch.

    Attributes:
        epochs, batch_size: passes over the data; the last batch of a pass may be smaller.
        lr: learning rate, constant or (``linear_decay``) falling to 0 over the run.
        weight_decay: L2 coefficient, added to the gradient (not decoupled).
        optimizer: ``adam``, ``sgd`` or ``adamw``, in which weight decay is decoupled.
        keep: checkpoints after each of the last ``keep`` epochs are samples of the posterior; of
            all epochs, if there are fewer.
        momentum, nesterov: of ``sgd``, as PyTorch defines them.
        clip: largest norm of a step's gradient; None: any.

    Raises:
        UserError: a number that cannot be, an unknown optimiser, or momentum for one that has
            moments of its own.
    """

    epochs: int
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 5e-3
    optimizer: str = "adam"
    linear_decay: bool = False
    keep: int = 5
    momentum: float = 0.0
    nesterov: bool = False
    clip: float | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "keep"):
            count = getattr(self, name)
            if not isinstance(count, Integral) or count < 1:
                raise UserError(f"{name}={count!r} must be a whole number, at least 1")
        if not 0 <= self.lr < inf:
            raise UserError(f"lr={self.lr!r} must be a finite number, not below 0")
        if self.optimizer not in OPTIMIZERS:
            raise UserError(
                f"optimizer={self.optimizer!r} is unknown: choose one of {', '.join(OPTIMIZERS)}"
            )
        if self.momentum and self.optimizer != "sgd":
            raise UserError(
                f"momentum={self.momentum} is of optimizer='sgd', not of {self.optimizer!r}"
            )

    def settings(self) -> dict:
        """What a result depends on; fields that came later are left out where they do nothing."""
        own, plain = asdict(self), {"momentum": 0.0, "nesterov": False, "clip": None}
        return {name: value for name, value in own.items() if plain.get(name, ...) != value}

    @property
    def kept_epochs(self) -> list[int]:
        """Epochs, counted from 1, after which a run's parameters are a sample."""
        return list(range(max(1, self.epochs - self.keep + 1), self.epochs + 1))

    def learning_rates(self, num_train: int) -> list[float]:
        """η of every step of a run."""
        total = self.epochs * -(-num_train // self.batch_size)
        return [self.lr * (1 - step / total if self.linear_decay else 1) for step in range(total)]

    def recorded(self, num_train: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """η at the kept checkpoints, and Σ_t η_t up to them."""
        per_epoch, rates = -(-num_train // self.batch_size), self.learning_rates(num_train)
        ends = [epoch * per_epoch for epoch in self.kept_epochs]
        return tuple(rates[end - 1] for end in ends), tuple(sum(rates[:end]) for end in ends)
