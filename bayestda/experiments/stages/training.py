"""Stage: train one run and keep its last checkpoints, with its predictions."""

from pathlib import Path

import xarray as xr

from bayestda.experiments import checkpoints, paths
from bayestda.experiments.stages.context import Context
from bayestda.experiments.stages.options import Options
from bayestda.experiments.stages.stage import Stage
from bayestda.training.loop import output, train


class Training(Stage):
    """Checkpoints of a run as samples of the posterior; its logits on all images."""

    name = "train"

    def outputs(self, options: Options) -> tuple[str, ...]:
        return ("predictions",)

    def settings(self, context: Context, output: str) -> dict:
        return {}

    def path(self, experiment: str, output: str, run: str) -> Path:
        return paths.predictions(experiment, run)

    def is_complete(self, context: Context) -> bool:
        """Return whether the checkpoints that the predictions come from are there too."""
        return checkpoints.is_saved(context.system, context.run, context.training_settings)

    def compute(self, context: Context, items: range, chunk: int) -> dict[str, xr.Dataset]:
        split = context.split
        trained = train(
            context.network, context.objective, split.train, context.recipe, context.full_run(),
            tf32=context.system.tf32,
        )  # fmt: skip
        theta_CP = next(trained)[1][:, 0]
        checkpoints.save(
            context.system, context.run, theta_CP, context.layout, context.training_settings
        )
        logits = {
            f"{name}_logit": context.labelled(
                output(context.network, context.objective, theta_CP, subset),
                ("checkpoint", name, "output"),
            )
            for name, subset in (("train", split.train), ("test", split.test))
        }
        if split.train.crops is not None:
            logits["crop"] = context.labelled(split.train.crops, ("train", "box"))
        return {"predictions": xr.Dataset(logits)}
