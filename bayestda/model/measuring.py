"""Let an objective measure something other than its loss."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bayestda.errors import UserError
from bayestda.model.losses import BinaryClassification, Standard
from bayestda.model.measurements import MEASUREMENTS, OF_CLASSES, OF_ONE_LOGIT, evaluate
from bayestda.model.objective import Measurement, Objective


@dataclass(frozen=True)
class Measuring:
    """Wrap an objective so that it measures something else; the rest is the objective's.

    Attributes:
        objective: The objective of the training: outputs, loss and its Hessian.
        measurement: A function from outputs [B K] and targets to [B].
    """

    objective: Objective
    measurement: Measurement

    def __getattr__(self, name: str) -> Any:
        # While a copy is being made it has no attributes yet: without this, endless recursion.
        if name == "objective":
            raise AttributeError(name)
        return getattr(self.objective, name)

    def measure(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """Return the measurement [B]."""
        return evaluate(self.measurement, output_BK, y_B)


def measuring(objective: Objective, measurement: str | Measurement | None) -> Objective:
    """Return the objective with another measurement.

    Args:
        objective: The objective of the training.
        measurement: A name: ``"loss"``, ``"margin"``
            (:func:`bayestda.model.measurements.margin`), ``"log_probability"`` or
            ``"probability"`` of the right class (for one logit f, target 1 has σ(f)), or
            ``"output"`` of networks with one output. Or a function from outputs [B K] and targets
            to [B]. None: what the objective measures.

    Raises:
        UserError: The name is unknown.
    """
    if measurement is None:
        return objective
    functions = named_measurements(objective)
    if isinstance(measurement, str) and measurement not in functions:
        raise UserError(
            f"measurement={measurement!r} is unknown: choose one of {', '.join(functions)}, or "
            "give a function from outputs [B, K] and targets to [B]"
        )
    function = functions[measurement] if isinstance(measurement, str) else measurement
    return Measuring(innermost(objective), function)


def named_measurements(objective: Objective) -> dict[str, Measurement]:
    """Return the measurements that have a name, for an objective's kind of output."""
    is_binary = isinstance(innermost(objective), BinaryClassification)
    return {"loss": objective.loss, **MEASUREMENTS, **(OF_ONE_LOGIT if is_binary else {})}


def measures_targets(objective: Objective) -> bool:
    """Return whether what is measured takes the targets that the loss takes."""
    measurement = getattr(objective, "measurement", None)
    if measurement is None:
        return getattr(type(innermost(objective)), "measure", None) is Standard.measure
    return measurement in OF_CLASSES or measurement == objective.loss


def innermost(objective: Any) -> Any:
    """Return the objective within a :class:`Measuring`, or the objective itself."""
    return getattr(objective, "objective", objective)


def calls_plainly(objective: Objective) -> bool:
    """Return whether the objective's outputs are simply those of the network on the inputs."""
    inner = objective.objective if type(objective) is Measuring else objective
    return isinstance(inner, Standard) and type(inner).output is Standard.output
