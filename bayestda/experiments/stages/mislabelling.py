"""Stage: mislabelled left-out examples, and what each method says about them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.experiments.grid import Run
from bayestda.experiments.stages.approximation import scores_or_reason
from bayestda.experiments.stages.final_context import FinalContext
from bayestda.experiments.stages.final_systems import FinalSystem
from bayestda.experiments.stages.further_training import FinalStage, trained
from bayestda.experiments.stages.options import Options
from bayestda.model.examples import Data
from bayestda.retraining.data_changes import Change
from bayestda.retraining.gold_standard import Course, GoldStandard

SHARE = 0.2  # of the left-out labels are flipped; Wei et al. 2025
GOLD = "gold"


def flipped_positions(trial: int, num_left_out: int) -> np.ndarray:
    """Return the left-out examples whose labels are flipped in a trial: a fifth of them."""
    rng = np.random.default_rng(trial)
    return np.sort(rng.choice(num_left_out, round(SHARE * num_left_out), replace=False))


def mislabelled(train: Data, positions: np.ndarray, trial: int) -> Data:
    """Return the training data with other classes for some examples.

    Raises:
        UserError: targets are no classes.
    """
    if train.y.is_floating_point():
        raise UserError("labels of a regression cannot be flipped: choose a --task with classes")
    classes, wrong = int(train.y.max()) + 1, train.y.clone()
    steps = np.random.default_rng([trial, 1]).integers(1, classes, len(positions))
    chosen = torch.from_numpy(positions).to(wrong.device)
    wrong[chosen] = (wrong[chosen] + torch.from_numpy(steps).to(wrong)) % classes
    return replace(train, y=wrong)


class MislabelContext(FinalContext):
    """One trial: flipped labels, and the final model that is trained on them."""

    def __init__(self, system: FinalSystem, run: Run, options: Options):
        super().__init__(system, run, options)
        self.flipped = flipped_positions(run.init, len(self.left_out))
        self.split = replace(
            self.split,
            train=mislabelled(self.split.train, self.flipped, run.init),
            hash=f"{self.split.hash}-flipped-{run.init}",
        )

    @cached_property
    def theta_P(self) -> Tensor:
        """The final model of this trial, which is not kept on disk."""
        return trained(self)[0][-1]


@dataclass(frozen=True)
class Row:
    """Scores of the left-out examples by one method in one setting, means over test examples."""

    method: str
    damping: float
    epoch: float
    score: np.ndarray


class Mislabel(FinalStage):
    """Mean scores of left-out examples, a fifth of them mislabelled, by further training and by
    each method.
    """

    name, unit, stacks = "mislabel", "trial", True

    context = MislabelContext

    def outputs(self, options: Options) -> tuple[str, ...]:
        return ("mislabel",)

    def path(self, experiment: str, output: str, run: str) -> Path:
        return paths.mislabelled(experiment, run)

    def settings(self, context: FinalContext, output: str) -> dict:
        recipe, methods = _sgd(context), list(context.options["methods"])
        own = {f"further_{name}": value for name, value in recipe.settings().items()}
        return {**own, "share": SHARE, "methods": methods, "num_left_out": len(context.left_out)}

    def compute(self, context: FinalContext, items: range, chunk: int) -> dict[str, xr.Dataset]:
        assert isinstance(context, MislabelContext)
        rows = [*gold_rows(context, chunk), *method_rows(context)]
        is_flipped = np.isin(np.arange(len(context.left_out)), context.flipped)
        found = xr.Dataset(
            {
                "score": (("row", "left_out"), np.stack([row.score for row in rows])),
                "flipped": ("left_out", is_flipped),
            },
            coords={
                "method": ("row", [row.method for row in rows]),
                "damping": ("row", [row.damping for row in rows]),
                "epoch": ("row", [row.epoch for row in rows]),
                "left_out": context.split.train.index[: len(context.left_out)],
            },
        )
        return {"mislabel": context.stamped(found)}


def gold_rows(context: FinalContext, chunk: int) -> Iterator[Row]:
    """Further training by SGD in one order of the data, by epoch; less training with all data.

    The order is that in which the trial's final model was trained, from its first epoch on.
    """
    recipe, train = _sgd(context), context.split.train
    steps = context.system.protocol.measured(recipe, len(train))[1:]
    course = Course.of(recipe, len(train), steps=steps)
    gold = GoldStandard(context.final_network, context.objective, recipe, course, chunk)
    change = Change([[position] for position in context.left_out])
    loss_TRM = gold.losses(context.run.order, train, context.evaluated, change)
    score_TR = (loss_TRM[:, 1:] - loss_TRM[:, :1]).mean(2).cpu().numpy()
    for epoch, score_R in zip(course.epochs, score_TR, strict=True):
        yield Row(GOLD, np.nan, epoch, score_R)


def method_rows(context: FinalContext) -> Iterator[Row]:
    """Each method, for each damping or horizon that it has."""
    methods = context.options["methods"]
    for method in methods:
        found = scores_or_reason(context, method)
        if isinstance(found, UserError):
            others = " ".join(name for name in methods if name != method)
            raise UserError(
                f"{method} cannot be computed: {found}; a trial has all methods or none: leave it "
                f"out by `--methods {others}`"
            )
        score = found["score"].isel(train_seed=0).mean("test")
        for dim, one in _settings(score):
            known: dict[str, Any] = {"damping": np.nan, "epoch": np.nan}
            known |= {name: float(one[name]) for name in known if name in one.coords and dim}
            yield Row(method, score=one.values, **known)


def _settings(score: xr.DataArray) -> Iterator[tuple[str, xr.DataArray]]:
    dim = next((dim for dim in ("damping", "step") if dim in score.dims), "")
    if not dim:
        yield dim, score
    else:
        for place in range(score.sizes[dim]):
            yield dim, score.isel({dim: place})


def _sgd(context: FinalContext):
    return context.system.protocol.further["sgd"]
