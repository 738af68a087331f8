"""Stages that train: leave-one-out and the additional training step."""

from dataclasses import replace

import torch
import xarray as xr
from torch import Tensor

from bayestda.experiments import checkpoints
from bayestda.experiments.grid import sign_of
from bayestda.experiments.stages.context import Context
from bayestda.experiments.stages.left_out import wanted_items
from bayestda.experiments.stages.options import Options
from bayestda.experiments.stages.stage import Stage
from bayestda.retraining.additional_step import additional_training_step, step_recipe
from bayestda.retraining.leave_one_out import removals, retrained_losses
from bayestda.training.loop import losses

# A part is lost when the stage is killed; it takes seconds.
MIN_PART = 8


class _InParts(Stage):
    """A stage whose work is a range of retrainings or steps."""

    stacks = True

    def part_size(self, context: Context) -> int:
        return max(MIN_PART, context.chunk)


class LeaveOneOut(_InParts):
    """Test loss without each training example, less that with all of them."""

    name, unit = "loo", "retraining"

    def outputs(self, options: Options) -> tuple[str, ...]:
        return ("loo_published" if options["variant"] == "published" else "loo",)

    def settings(self, context: Context, output: str) -> dict:
        if output == "loo":
            return {"method": output}
        return {"method": output, "posterior": checkpoints.fingerprint(context.posterior)}

    def num_items(self, context: Context) -> int:
        """Count the base run and one retraining for each training example."""
        return 1 + len(context.split.train)

    def wanted_items(self, context: Context) -> range:
        """Return those of ``--loo_ids``; the base run is with example 0."""
        return wanted_items(context.options, len(context.split.train))

    def compute(self, context: Context, items: range, chunk: int) -> dict[str, xr.Dataset]:
        weight_RN = removals(len(context.split.train), items).to(context.device)
        (output,) = self.outputs(context.options)
        retrained = _from_scratch if output == "loo" else _continued
        loss_CRM = retrained(context, weight_RN, items, chunk)
        loss = context.labelled(loss_CRM, ("checkpoint", "member", "test"))
        return {output: xr.Dataset({"loss": loss.assign_coords(member=list(items))})}

    def gather(self, context: Context, parts: list[xr.Dataset]) -> xr.Dataset:
        """Return the loss without z_j less that of the base run, which is member 0."""
        loss = xr.concat([part["loss"] for part in parts], dim="member").drop_duplicates("member")
        base = loss.sel(member=0, drop=True)
        score = (loss.sel(member=slice(1, None)) - base).astype("float32")
        score = score.transpose("seed", "checkpoint", "member", "test")
        return context.label_train(xr.Dataset({"score": score, "test_loss": base}), "member")


class AdditionalStep(_InParts):
    """Test loss after one more step on each training example, less that before."""

    name, unit = "ats", "example"

    def outputs(self, options: Options) -> tuple[str, ...]:
        return ("ats_sgd" if options["optimizer"] == "sgd" else "ats",)

    def settings(self, context: Context, output: str) -> dict:
        posterior = checkpoints.fingerprint(context.posterior)
        return {"method": output, "posterior": posterior, **sign_of(output)}

    def num_items(self, context: Context) -> int:
        """Count one step for each training example."""
        return len(context.split.train)

    def compute(self, context: Context, items: range, chunk: int) -> dict[str, xr.Dataset]:
        recipe = step_recipe(context.recipe, context.options["optimizer"])
        examples = context.split.train.take(slice(items.start, items.stop))
        scores = [
            additional_training_step(
                context.network, context.objective, theta_P, recipe,
                examples=examples, test=context.split.test, chunk=chunk,
            )
            for theta_P in context.posterior
        ]  # fmt: skip
        score = context.labelled(torch.stack(scores).float(), ("checkpoint", "item", "test"))
        (output,) = self.outputs(context.options)
        return {output: xr.Dataset({"score": score.assign_coords(item=list(items))})}

    def gather(self, context: Context, parts: list[xr.Dataset]) -> xr.Dataset:
        return context.label_train(xr.concat(parts, dim="item").drop_duplicates("item"), "item")


def _from_scratch(context: Context, weight_RN: Tensor, _items: range, chunk: int) -> Tensor:
    return retrained_losses(
        context.network, context.objective, context.recipe, context.members(weight_RN),
        train_data=context.split.train, test_data=context.split.test,
        chunk=chunk, tf32=context.system.tf32,
    )  # fmt: skip


def _continued(context: Context, weight_RN: Tensor, items: range, chunk: int) -> Tensor:
    """Return losses [C R M] after one more full run from each checkpoint; row 0 is its own."""
    recipe, test = replace(context.recipe, keep=1), context.split.test
    trained = [
        retrained_losses(
            context.network, context.objective, recipe, context.members(weight_RN, theta_P),
            train_data=context.split.train, test_data=test,
            chunk=chunk, tf32=context.system.tf32,
        )
        for theta_P in context.posterior
    ]  # fmt: skip
    loss_CRM = torch.cat(trained)
    if items.start == 0:
        loss_CRM[:, 0] = losses(context.network, context.objective, context.posterior, test)
    return loss_CRM
