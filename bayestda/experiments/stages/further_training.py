"""Stages of final-model-only attribution: the final model, and its further training."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

import xarray as xr
from torch import Tensor

from bayestda.errors import UserError
from bayestda.experiments import checkpoints, paths
from bayestda.experiments.final_models import FinalModels
from bayestda.experiments.grid import Run
from bayestda.experiments.stages.context import Options
from bayestda.experiments.stages.final_context import FinalContext, final_context, forget
from bayestda.experiments.stages.left_out import add_loo_ids, wanted_items
from bayestda.experiments.stages.runner import Stage
from bayestda.model.dropout import draws_masks
from bayestda.retraining.data_changes import HOW, Change
from bayestda.retraining.further_training import labelled
from bayestda.retraining.gold_standard import Course, GoldStandard
from bayestda.training.loop import accuracy, output, run, train
from bayestda.training.members import Members, data_order
from bayestda.training.recipe import OPTIMIZERS, Recipe
from bayestda.training.stacking import copies_of

STARTS = ("final", "scratch")


def add_further_flags(parser: ArgumentParser) -> None:
    """``--loo_ids``, ``--optimizer``, ``--leave_out``, ``--start``."""
    add_loo_ids(parser)
    parser.add_argument(
        "--optimizer", choices=OPTIMIZERS,
        help="of further training; default: the task's first, mostly sgd",
    )  # fmt: skip
    parser.add_argument(
        "--leave_out", choices=HOW, default=HOW[0],
        help="subtract: L(z_i)/n from every batch's mean loss; delete: z_i from the order, which "
        "shifts all later batches, as the authors' code does",
    )  # fmt: skip
    parser.add_argument(
        "--start", choices=STARTS, default=STARTS[0],
        help="scratch: train from the final model's initial parameters, in orders of their own, "
        "with and without each example",
    )  # fmt: skip


class FinalStage(Stage[FinalContext]):
    """A stage whose runs are final models."""

    def context(self, experiment: FinalModels, run: Run, options: Options) -> FinalContext:
        return final_context(experiment, run, options)

    def forget(self) -> None:
        forget()

    def train_seeds(self, flags: Namespace) -> Sequence[int] | None:
        """Of which final models unless one is asked for; None: those of the task's protocol."""
        return None

    def resolved(self, models: FinalModels, flags: dict) -> dict:
        """The stage's own flags, with a task's defaults in the place of None."""
        del models
        return flags


class TrainFinal(FinalStage):
    """The final model of a training seed, and its outputs on all examples."""

    name = "train_final"

    def outputs(self, options: Options) -> tuple[str, ...]:
        return ("predictions",)

    def settings(self, context: FinalContext, output: str) -> dict:
        return {}

    def path(self, experiment: str, output: str, run: str) -> Path:
        return paths.predictions(experiment, run)

    def is_complete(self, context: FinalContext) -> bool:
        """Whether the parameters that the predictions come from are there too."""
        return checkpoints.is_saved(context.experiment, context.run, context.training_settings)

    def compute(self, context: FinalContext, items: range, chunk: int) -> dict[str, xr.Dataset]:
        split, (theta_CP, epoch) = context.split, trained(context)
        checkpoints.save(
            context.experiment, context.run, theta_CP, context.layout, context.training_settings
        )
        outputs = {
            f"{name}_output": xr.DataArray(
                output(context.network, context.objective, theta_CP, data)[0].cpu().numpy(),
                dims=(name, "output"), coords={name: data.index},
            )
            for name, data in (("train", split.train), ("test", split.test))
        }  # fmt: skip
        found = xr.Dataset({**outputs, "epoch": epoch})
        return {"predictions": context.stamped(found)}


class FurtherTraining(FinalStage):
    """Test losses after further training with all data, and without each left-out example."""

    name, unit, stacks = "further_train", "training", True

    def resolved(self, models: FinalModels, flags: dict) -> dict:
        if flags["start"] == "scratch" and flags["leave_out"] != HOW[0]:
            raise UserError(
                f"training from scratch leaves examples out by --leave_out {HOW[0]} only, as the "
                "further training that it is compared with: leave out --leave_out or --start"
            )
        return {**flags, "optimizer": models.protocol.optimizer(flags["optimizer"])}

    def outputs(self, options: Options) -> tuple[str, ...]:
        parts = {
            "further": options["optimizer"] if options["start"] == "final" else "scratch",
            "how": "" if options["leave_out"] == HOW[0] else f"_{options['leave_out']}",
        }
        return ("".join(parts.values()),)

    def path(self, experiment: str, output: str, run: str) -> Path:
        return paths.further(experiment, output, run)

    def settings(self, context: FinalContext, output: str) -> dict:
        recipe, course = _further(context)
        own = {f"further_{name}": value for name, value in recipe.settings().items()}
        final = checkpoints.fingerprint(context.theta_P) if _from_final(context) else None
        change = _change(context)
        return {
            **own, "order": context.run.order, "how": change.how, **_measured(course),
            "num_left_out": len(change.groups), "final": final,
        }  # fmt: skip

    def num_items(self, context: FinalContext) -> int:
        """The full run and one training for each left-out example."""
        return 1 + len(context.left_out)

    def wanted_items(self, context: FinalContext) -> range:
        """Those of ``--loo_ids``; the full run is with example 0."""
        return wanted_items(context.options, len(context.left_out))

    def part_size(self, context: FinalContext) -> int:
        return max(8, context.chunk) if context.chunk > 1 else 1

    def compute(self, context: FinalContext, items: range, chunk: int) -> dict[str, xr.Dataset]:
        recipe, course = _further(context)
        network = context.final_network if _from_final(context) else context.network
        gold = GoldStandard(network, context.objective, recipe, course, chunk)
        loss_TRM = gold.losses(
            context.run.order, context.split.train, context.evaluated, _change(context), items
        )
        (name,) = self.outputs(context.options)
        loss = xr.DataArray(loss_TRM.cpu().numpy(), dims=("step", "member", "test"))
        return {name: xr.Dataset({"loss": loss.assign_coords(member=list(items))})}

    def gather(self, context: FinalContext, parts: list[xr.Dataset]) -> xr.Dataset:
        loss = xr.concat([part["loss"] for part in parts], dim="member").drop_duplicates("member")
        _, course = _further(context)
        seed = int(context.run.name.partition("x")[2])
        gathered = labelled(
            loss.transpose("step", "member", "test").values[None], course, _change(context),
            [seed], context.split.train, context.evaluated,
        )  # fmt: skip
        return context.stamped(gathered)


def _from_final(context: FinalContext) -> bool:
    return context.options["start"] == "final"


def trained(context: FinalContext) -> tuple[Tensor, int]:
    """θ [1 P] of the final model, trained now, and the epoch that it is of."""
    train_data, recipe = context.split.train, context.experiment.recipe
    members = _member(context)
    if not context.experiment.protocol.best:
        trained = train(context.network, context.objective, train_data, recipe, members)
        return next(trained)[1][:, 0], recipe.epochs
    copies = copies_of(context.network, context.objective, stacked=False)
    per_epoch, best = -(-len(train_data) // recipe.batch_size), (-1.0, members.initial, 0)
    for step, _ in enumerate(run(copies, context.objective, train_data, recipe, members)):
        if step and step % per_epoch == 0:
            share = accuracy(copies, context.split.test)
            if share > best[0]:
                best = share, copies.vector(), step // per_epoch
    return best[1], best[2]


def _member(context: FinalContext) -> Members:
    """The final model before its training."""
    num_train, recipe = len(context.split.train), context.experiment.recipe
    initial_1P = context.layout.read(context.network)[None]
    order = data_order(context.run.order, num_train, recipe.epochs).to(context.device)
    batch = context.split.train.take(slice(recipe.batch_size))
    has_dropout = draws_masks(context.network, context.objective, batch)
    dropout_seed = context.run.order if has_dropout else None
    return Members(initial_1P, order, initial_1P.new_ones(1, num_train), dropout_seed)


def _further(context: FinalContext) -> tuple[Recipe, Course]:
    """The recipe, and when it is measured."""
    protocol, num_train = context.experiment.protocol, len(context.split.train)
    if _from_final(context):
        recipe = protocol.further[context.options["optimizer"]]
        steps = protocol.measured(recipe, num_train)
        return recipe, Course.of(recipe, num_train, steps=steps)
    return protocol.training, Course.of(protocol.training, num_train)


def _measured(course: Course) -> dict:
    """When further training is measured, for the settings: in epochs, if these are whole."""
    whole = all(epoch.is_integer() for epoch in course.epochs)
    epochs, steps = [int(epoch) for epoch in course.epochs], list(course.steps)
    return {"epochs_measured": epochs} if whole else {"steps_measured": steps}


def _change(context: FinalContext) -> Change:
    groups = [[position] for position in context.left_out]
    return Change(groups, how=context.options["leave_out"])
