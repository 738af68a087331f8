"""The stages of the paper's grid as their scripts know them: the flags that each of them uses.

Importing this file does not import torch.
"""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Any

from bayestda.experiments.flags import count, refuse, size
from bayestda.experiments.grid import METHODS
from bayestda.experiments.stages.cli import Command
from bayestda.experiments.stages.left_out import add_loo_ids
from bayestda.scores import estimators

VARIANTS = ("scratch", "published")  # of leave-one-out
STEP_OPTIMIZERS = ("adam", "sgd")  # of the additional step
DAMPINGS = (1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 10.0)
DEFAULT_DAMPING = 1e-1  # measured: docs/deviations.md, "damping"
LISSA = ("lissa_damping", "lissa_scale", "lissa_batch", "lissa_steps")


class Train(Command):
    """Checkpoints of a run, and its predictions."""

    stage = "training:Training"


class Loo(Command):
    """Leave-one-out retraining."""

    stage, stacks = "retraining:LeaveOneOut", True

    def add_own_flags(self, parser: ArgumentParser) -> None:
        """Add ``--loo_ids`` and ``--variant``."""
        add_loo_ids(parser)
        parser.add_argument(
            "--variant", choices=VARIANTS, default="scratch",
            help="scratch: retrain from the run's own initialisation; published: train on from "
            "each trained checkpoint, as the released code does",
        )  # fmt: skip

    def resolved(self, _system: Any, flags: Namespace) -> dict[str, Any]:
        """Return the flags as they are."""
        return {"loo_ids": flags.loo_ids, "variant": flags.variant}


class Ats(Command):
    """The additional training step."""

    stage, stacks = "retraining:AdditionalStep", True

    def add_own_flags(self, parser: ArgumentParser) -> None:
        """Add ``--optimizer``."""
        parser.add_argument(
            "--optimizer", choices=STEP_OPTIMIZERS, default="adam",
            help="of the additional step. adam: a fresh Adam step, as the released code does; "
            "sgd: a gradient step, as the paper's text reads",
        )  # fmt: skip

    def resolved(self, _system: Any, flags: Namespace) -> dict[str, Any]:
        """Return the flags as they are."""
        return {"optimizer": flags.optimizer}


class _Gradients(Command):
    """Scores that need gradients only; subclasses name the method.

    Attributes:
        method: The method that the script is named after.
        others: Methods that the same pass over the gradients can score.
    """

    method = ""
    others: tuple[str, ...] = ()
    stage = "gradients:GradientScores"

    def add_own_flags(self, parser: ArgumentParser) -> None:
        """Add ``--also``."""
        parser.add_argument(
            "--also", nargs="+", choices=self.others, default=(),
            help="score these methods too, from the same pass over the gradients",
        )  # fmt: skip

    def resolved(self, _system: Any, flags: Namespace) -> dict[str, Any]:
        """Return the methods to score."""
        return {"methods": tuple(dict.fromkeys((self.method, *flags.also)))}


class GradDot(_Gradients):
    """Grad-Dot."""

    method, others = "grad_dot", ("grad_cos",)


class GradCos(_Gradients):
    """Grad-Cos."""

    method, others = "grad_cos", ("grad_dot",)


class Influence(_Gradients):
    """Influence functions, exact or by LiSSA."""

    method = "influence"
    others = tuple(
        name for name in METHODS if name != "influence" and not estimators.METHODS[name].retrains
    )

    def add_own_flags(self, parser: ArgumentParser) -> None:
        """Add ``--damping``, ``--solver``, ``--lissa_*`` and ``--also``."""
        dampings = " ".join(f"{damping:g}" for damping in DAMPINGS)
        parser.add_argument(
            "--damping", nargs="+", type=size, metavar="LAMBDA",
            help="dampings of the exact influence function, all from one eigendecomposition; "
            f"default: {dampings} (analysis uses {DEFAULT_DAMPING} if it is among them, else the "
            "first)",
        )  # fmt: skip
        parser.add_argument(
            "--solver", choices=("exact", "lissa"), default="exact",
            help="of the influence function. exact: Gauss-Newton by its dual; lissa: the "
            "recursion on the Hessian; without further flags with the published constants",
        )  # fmt: skip
        for name, kind, of in (
            ("damping", size, "damping"), ("scale", size, "scale"), ("batch", count, "batch size"),
        ):  # fmt: skip
            parser.add_argument(
                f"--lissa_{name}", type=kind, help=f"LiSSA's {of}; default: the published one"
            )
        parser.add_argument(
            "--lissa_steps", type=count,
            help="LiSSA's number of steps; default: one pass over the training data",
        )  # fmt: skip
        super().add_own_flags(parser)

    def resolved(self, system: Any, flags: Namespace) -> dict[str, Any]:
        """Return the methods, and the settings of the chosen solver.

        Raises:
            UserError: A setting of the other solver was given.
        """
        methods = super().resolved(system, flags)["methods"]
        if flags.solver == "exact":
            refuse(flags, LISSA, "applies only to --solver lissa")
            return {"methods": methods, "damping": tuple(dict.fromkeys(flags.damping or DAMPINGS))}
        refuse(flags, "damping", "applies only to --solver exact (LiSSA has --lissa_damping)")
        solved = ("influence_lissa", *methods[1:])
        return {"methods": solved, **{name: getattr(flags, name) for name in LISSA}}


class Estimators(Command):
    """Every estimator, and models trained on random halves."""

    stage, stacks = "estimators:Estimators", True

    def add_own_flags(self, parser: ArgumentParser) -> None:
        """Add ``--subsets`` and, where nothing hinders replays, ``--ablations``."""
        parser.add_argument(
            "--subsets", type=_subsets, default=0,
            help="models trained again, each on a random half, for the linear datamodelling score",
        )  # fmt: skip
        if not self.system.has_dropout:
            parser.add_argument(
                "--ablations", action="store_true",
                help="also replays with one idea left out, and the exact derivative of the run; "
                "about ten times the work of the replay alone",
            )  # fmt: skip

    def resolved(self, _system: Any, flags: Namespace) -> dict[str, Any]:
        """Return the flags; runs with dropout have no replays, and so no ablations.

        Raises:
            UserError: ``--chunk`` was given without models to train.
        """
        if not flags.subsets:
            refuse(flags, "chunk", "applies only to the models of --subsets")
        return {"subsets": flags.subsets, "ablations": getattr(flags, "ablations", False)}


def _subsets(text: str) -> int:
    if not 0 <= int(text) < 10**6:
        raise ArgumentTypeError(f"must be a whole number from 0 to 999999, got {text}")
    return int(text)
