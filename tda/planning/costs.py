"""Measured costs of units of work: ``benchmarks/costs.csv``, which says how each was measured."""

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from tda import paths, store
from tda.errors import UserError

Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Cost:
    """What one unit of work takes.

    Attributes:
        stage: name of the script, or ``train``.
        system: what it works on, without what varies between runs: ``cnn2_mnist3_10pc``.
        flags: those that change the cost.
        unit: what is counted: a run, a retraining, an example, a table.
        device: ``cpu`` or ``gpu``.
        seconds: of one core per unit, measured; nan where they were not.
        tflop: 10¹² floating point operations per unit, counted; nan where they are not.
        clock: ``cpu``, or ``wall``, which counts what else ran on the core, too.
        machine, command: where and how it was measured.
    """

    stage: str
    system: str
    flags: str
    unit: str
    device: str
    seconds: float
    tflop: float
    clock: str
    machine: str
    command: str

    @property
    def key(self) -> Key:
        """What may be there once."""
        return self.stage, self.system, self.flags, self.device


NAMES = [field.name for field in fields(Cost)]


def read(path: Path = paths.COSTS) -> dict[Key, Cost]:
    """All measured costs.

    Raises:
        UserError: the file is missing, or is no table of costs.
    """
    try:
        with path.open(newline="") as file:
            costs = [_cost(row) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no table of costs ({error}): restore it with "
            "`git checkout benchmarks/costs.csv`"
        ) from error
    return {cost.key: cost for cost in costs}


def write(costs: Iterable[Cost], path: Path = paths.COSTS) -> None:
    """Write costs, in the order of their keys."""
    rows = [asdict(cost) for cost in sorted(costs, key=lambda cost: cost.key)]
    text = io.StringIO()
    writer = csv.DictWriter(text, NAMES, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    store.write_bytes(path, text.getvalue().encode())


def merged(old: dict[Key, Cost], new: Iterable[Cost]) -> list[Cost]:
    """Old and new costs; of two of the same thing the smaller one, as what disturbs only adds."""
    found = dict(old)
    for cost in new:
        found[cost.key] = _better(cost, found.get(cost.key, cost))
    return list(found.values())


def _better(new: Cost, old: Cost) -> Cost:
    """The faster of two, with FLOPs from either."""
    best = old if old.seconds <= new.seconds or new.seconds != new.seconds else new
    return replace(best, tflop=old.tflop if new.tflop != new.tflop else new.tflop)


def nearest(costs: dict[Key, Cost], cost: Cost) -> Cost | None:
    """Of the same stage of the same model the measured cost whose FLOPs are nearest in ratio."""
    known = [
        other
        for other in costs.values()
        if (other.stage, other.flags, other.device) == (cost.stage, cost.flags, cost.device)
        and model_of(other.system) == model_of(cost.system)
        and other.seconds == other.seconds
        and other.tflop == other.tflop
    ]
    return min(known, key=lambda other: abs(math.log(other.tflop / cost.tflop)), default=None)


def model_of(system: str) -> str:
    """``cnn2`` of ``cnn2_mnist3_10pc``."""
    return system.rsplit("_", 2)[0]


def _cost(row: dict[str, str]) -> Cost:
    seconds, tflop = (float(row[name] or "nan") for name in ("seconds", "tflop"))
    if not (seconds > 0 or tflop > 0) or seconds < 0 or tflop < 0:
        raise ValueError(f"no cost of {row['stage']} {row['system']}")
    return Cost(
        row["stage"], row["system"], row["flags"], row["unit"], row["device"], seconds, tflop,
        row["clock"], row["machine"], row["command"],
    )  # fmt: skip


def _cell(value: object) -> object:
    if not isinstance(value, float):
        return value
    return "" if value != value else f"{value:.4g}"
