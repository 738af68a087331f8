"""The stages of final-model-only attribution as their scripts know them: the flags of each.

Importing this file does not import torch.
"""

from argparse import ArgumentParser, Namespace
from typing import Any

from bayestda.errors import UserError
from bayestda.experiments.approximations import APPROXIMATIONS, default_methods
from bayestda.experiments.flags import count, index, refuse
from bayestda.experiments.grid import Run
from bayestda.experiments.stages.cli import Command
from bayestda.experiments.stages.final_systems import FinalSystem
from bayestda.experiments.stages.left_out import add_loo_ids
from bayestda.training.recipe import OPTIMIZERS

STARTS = ("final", "scratch")
LEAVE_OUT = ("subtract", "delete")  # those of bayestda.retraining.data_changes, which needs torch
NUM_TRIALS = 40  # Wei et al. 2025


class _Final(Command):
    """A stage of :mod:`bayestda.experiments.stages.final_systems`."""

    def __init__(self) -> None:
        super().__init__(FinalSystem)


class TrainFinal(_Final):
    """The final model of a training seed."""

    stage = "further_training:TrainFinal"


class FurtherTrain(_Final):
    """Further training of final models, each in several orders of the data."""

    stage, stacks = "further_training:FurtherTraining", True

    def add_run_flags(self, parser: ArgumentParser) -> None:
        """Add ``--seed_id`` and ``--num_seeds``."""
        parser.add_argument("--seed_id", type=index, help="one order of the data; default: all")
        parser.add_argument(
            "--num_seeds", type=count,
            help="orders of the data, without --seed_id; default: the task's, mostly 10",
        )  # fmt: skip

    def add_own_flags(self, parser: ArgumentParser) -> None:
        """Add ``--loo_ids``, ``--optimizer``, ``--leave_out`` and ``--start``."""
        add_loo_ids(parser)
        parser.add_argument(
            "--optimizer", choices=OPTIMIZERS,
            help="of further training; default: the task's first, mostly sgd",
        )  # fmt: skip
        parser.add_argument(
            "--leave_out", choices=LEAVE_OUT, default=LEAVE_OUT[0],
            help="subtract: L(z_i)/n from every batch's mean loss; delete: z_i from the order, "
            "which shifts all later batches, as the authors' code does",
        )  # fmt: skip
        parser.add_argument(
            "--start", choices=STARTS, default=STARTS[0],
            help="scratch: train from the final model's initial parameters, in orders of their "
            "own, with and without each example",
        )  # fmt: skip

    def resolved(self, system: FinalSystem, flags: Namespace) -> dict[str, Any]:
        """Return the flags, with the task's optimiser in the place of None.

        Raises:
            UserError: Flags do not go together, or the task has no such optimiser.
        """
        if flags.seed_id is not None:
            refuse(flags, "num_seeds", "applies only without --seed_id")
        if flags.start == "scratch":
            refuse(flags, "optimizer", "applies only to --start final")
            if flags.leave_out != LEAVE_OUT[0]:
                raise UserError(
                    f"training from scratch leaves examples out by --leave_out {LEAVE_OUT[0]} "
                    "only, as the further training that it is compared with: leave out "
                    "--leave_out or --start"
                )
        return {
            "loo_ids": flags.loo_ids, "leave_out": flags.leave_out, "start": flags.start,
            "optimizer": system.protocol.optimizer(flags.optimizer),
        }  # fmt: skip

    def runs(self, system: FinalSystem, flags: Namespace) -> list[Run]:
        """Return each final model in each order of the data."""
        seeds = range(flags.num_seeds or system.protocol.num_seeds)
        chosen = seeds if flags.seed_id is None else [flags.seed_id]
        return system.models.runs(flags.train_seed, chosen)

    def place(self, flags: Namespace) -> int | None:
        """Return the number of the only order of the data."""
        return flags.seed_id


class Approximate(_Final):
    """Scores of left-out examples by each method."""

    stage = "approximation:Approximate"

    def add_own_flags(self, parser: ArgumentParser) -> None:
        """Add ``--methods``."""
        parser.add_argument(
            "--methods", nargs="+", choices=tuple(APPROXIMATIONS),
            help="which, from one pass over the gradients; default: all that fit the task's size "
            "and optimiser. The exact Gauss-Newton matrix (influence, corollary_2, equation_16, "
            "horizon, horizon_generalised, horizon_linearised) needs memory for (N K)^2 numbers",
        )  # fmt: skip

    def resolved(self, system: FinalSystem, flags: Namespace) -> dict[str, Any]:
        """Return the methods, the task's in the place of None."""
        return {"methods": tuple(flags.methods or default_methods(system.models))}


class Mislabel(Approximate):
    """Mislabelled examples, and what each method says about them."""

    stage, stacks = "mislabelling:Mislabel", True

    def add_own_flags(self, parser: ArgumentParser) -> None:
        """Add ``--num_trials`` and ``--methods``."""
        parser.add_argument(
            "--num_trials", type=count,
            help="final models, each with labels of its own flipped, without --train_seed; "
            f"default: {NUM_TRIALS}",
        )  # fmt: skip
        super().add_own_flags(parser)

    def resolved(self, system: FinalSystem, flags: Namespace) -> dict[str, Any]:
        """Return the methods.

        Raises:
            UserError: Flags do not go together, or the task is not trained further with SGD.
        """
        if flags.train_seed is not None:
            refuse(flags, "num_trials", "applies only without --train_seed")
        if "sgd" not in system.protocol.further:
            raise UserError(
                f"mislabelled examples take further training with SGD, and {flags.task} has "
                f"{', '.join(system.protocol.further)}: choose another --task"
            )
        return super().resolved(system, flags)

    def runs(self, system: FinalSystem, flags: Namespace) -> list[Run]:
        """Return one run for each trial."""
        trials = range(flags.num_trials or NUM_TRIALS)
        return system.models.finals(flags.train_seed or trials)
