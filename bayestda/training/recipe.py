"""Describe how one model is trained."""

from dataclasses import asdict, dataclass
from math import inf
from numbers import Integral

from bayestda.errors import UserError

OPTIMIZERS = ("sgd", "adam", "adamw")


@dataclass(frozen=True)
class Recipe:
    """Describe how one model is trained: Adam or SGD on the mean loss of each batch.

    Attributes:
        epochs: Number of passes over the data.
        batch_size: Examples in a batch; the last batch of a pass may be smaller.
        lr: Learning rate η at the start.
        weight_decay: L2 coefficient, added to the gradient except with ``adamw``.
        optimizer: Name of the optimiser: ``adam``, ``sgd``, or ``adamw`` with decoupled decay.
        linear_decay: Whether the learning rate falls linearly to 0 over the run.
        keep: Number of last epochs after which a checkpoint is kept as a sample of the posterior;
            all epochs, if there are fewer.
        momentum: Momentum of ``sgd``, as PyTorch defines it.
        nesterov: Whether the momentum is Nesterov's.
        clip: Largest norm of a step's gradient; None: no limit.

    Raises:
        UserError: A number is out of its range, the optimiser is unknown, or an optimiser other
            than ``sgd`` is given momentum.
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
                f"momentum={self.momentum} applies only to optimizer='sgd', not to "
                f"{self.optimizer!r}: leave out momentum, or choose 'sgd'"
            )

    def settings(self) -> dict:
        """Return the fields that a result depends on, by name."""
        # Fields added later count only if they do something: older results have no record of them.
        later = {"momentum": 0.0, "nesterov": False, "clip": None}
        return {
            name: value for name, value in asdict(self).items() if later.get(name, ...) != value
        }

    @property
    def kept_epochs(self) -> list[int]:
        """Return the epochs, counted from 1, after which a run's parameters are a sample."""
        return list(range(max(1, self.epochs - self.keep + 1), self.epochs + 1))

    def learning_rates(self, num_train: int) -> list[float]:
        """Return the learning rate η of every step of a run."""
        total = self.epochs * -(-num_train // self.batch_size)  # the last batch of a pass is kept
        return [self.lr * (1 - step / total if self.linear_decay else 1) for step in range(total)]

    def recorded(self, num_train: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return η at the kept checkpoints, and Σ_t η_t up to them."""
        per_epoch, rates = -(-num_train // self.batch_size), self.learning_rates(num_train)
        ends = [epoch * per_epoch for epoch in self.kept_epochs]
        return tuple(rates[end - 1] for end in ends), tuple(sum(rates[:end]) for end in ends)
