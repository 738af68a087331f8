"""Stages of final-model-only attribution: the final model, and its further training."""

from pathlib import Path

import xarray as xr
from torch import Tensor

from bayestda.experiments import checkpoints, paths
from bayestda.experiments.stages.final_context import FinalContext
from bayestda.experiments.stages.left_out import wanted_items
from bayestda.experiments.stages.options import Options
from bayestda.experiments.stages.stage import Stage
from bayestda.retraining.data_changes import HOW, Change
from bayestda.retraining.further_training import labelled
from bayestda.retraining.gold_standard import Course, GoldStandard
from bayestda.training.loop import accuracy, output, run, train
from bayestda.training.recipe import Recipe
from bayestda.training.stacking import copies_of


class FinalStage(Stage[FinalContext]):
    """A stage whose runs are final models."""

    context = FinalContext


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
        """Return whether the parameters that the predictions come from are there too."""
        return checkpoints.is_saved(context.system, context.run, context.training_settings)

    def compute(self, context: FinalContext, items: range, chunk: int) -> dict[str, xr.Dataset]:
        split, (theta_CP, epoch) = context.split, trained(context)
        checkpoints.save(
            context.system, context.run, theta_CP, context.layout, context.training_settings
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
        """Count the full run and one training for each left-out example."""
        return 1 + len(context.left_out)

    def wanted_items(self, context: FinalContext) -> range:
        """Return those of ``--loo_ids``; the full run is with example 0."""
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
    """Train the final model, and return its θ [1 P] and the epoch that it is of."""
    train_data, recipe = context.split.train, context.recipe
    members = context.full_run()
    if not context.system.protocol.best:
        trained = train(context.network, context.objective, train_data, recipe, members)
        return next(trained)[1][:, 0], recipe.epochs
    copies = copies_of(context.network, context.objective, train_data, stacked=False)
    per_epoch, best = -(-len(train_data) // recipe.batch_size), (-1.0, members.initial, 0)
    for step, _ in enumerate(run(copies, context.objective, train_data, recipe, members)):
        if step and step % per_epoch == 0:
            share = accuracy(copies, context.split.test)
            if share > best[0]:
                best = share, copies.vector(), step // per_epoch
    return best[1], best[2]


def _further(context: FinalContext) -> tuple[Recipe, Course]:
    """Return the recipe, and when it is measured."""
    protocol, num_train = context.system.protocol, len(context.split.train)
    if _from_final(context):
        recipe = protocol.further[context.options["optimizer"]]
        steps = protocol.measured(recipe, num_train)
        return recipe, Course.of(recipe, num_train, steps=steps)
    return protocol.training, Course.of(protocol.training, num_train)


def _measured(course: Course) -> dict:
    """Say when further training is measured, for the settings: in whole epochs, or in steps."""
    whole = all(epoch.is_integer() for epoch in course.epochs)
    epochs, steps = [int(epoch) for epoch in course.epochs], list(course.steps)
    return {"epochs_measured": epochs} if whole else {"steps_measured": steps}


def _change(context: FinalContext) -> Change:
    groups = [[position] for position in context.left_out]
    return Change(groups, how=context.options["leave_out"])
