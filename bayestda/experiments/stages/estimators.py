"""Stage: scores of every estimator, and models trained again on random subsets, to compare them.

Everything is a mean over a run's checkpoints, and positive = helpful.
"""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from bayestda.curvature.filters import flow, ridge
from bayestda.errors import UserError
from bayestda.experiments import checkpoints, paths
from bayestda.experiments.stages.context import Context, Options
from bayestda.experiments.stages.runner import Stage
from bayestda.gradients.sample import SampleGradients
from bayestda.methods import METHODS
from bayestda.methods.grad_cos import grad_cos
from bayestda.methods.grad_dot import grad_dot
from bayestda.methods.influence import filtered_influence
from bayestda.methods.preconditioned import preconditioned_influence
from bayestda.methods.trak import trak
from bayestda.model.parameters import private_copy
from bayestda.retraining.ablations import ABLATIONS
from bayestda.retraining.leave_one_out import retrained_losses
from bayestda.retraining.replay import replay
from bayestda.training.history import Training
from bayestda.training.horizon import Pace, paces
from bayestda.training.members import data_order
from bayestda.training.posterior import Posterior

DAMPINGS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0)  # and horizons are 1 / these
APPROXIMATE = {  # of the exact Gauss-Newton matrix, at one damping; slow, so of the last checkpoint
    "influence_low_rank": {"damping": 0.1, "rank": 50},
    "influence_ekfac": {"damping": 0.1},
    "influence_projected": {"damping": 0.1},
    "datainf": {"damping": 0.1},
}
AVERAGED = ("grad_dot", "influence 0.1")  # of which the last checkpoint's scores are kept, too
SMALL = 1e-2  # share of an example that is removed, where the size of removal is left out
TRAK_SHARE = 2 / 3  # of N: numbers that TRAK projects to
SUBSET_SEED = 0  # of the random halves, the same for all runs


def add_flags(parser: ArgumentParser) -> None:
    """``--subsets``, ``--ablations``."""
    parser.add_argument(
        "--subsets", type=_subsets, default=0,
        help="models trained again, each on a random half, for the linear datamodelling score",
    )  # fmt: skip
    parser.add_argument(
        "--ablations", action="store_true",
        help="also replays with one idea left out, and the exact derivative of the run; about ten "
        "times the work of the replay alone",
    )  # fmt: skip


class Estimators(Stage):
    """Scores of all estimators; losses of models trained on random halves."""

    name, unit, stacks = "estimators", "run", True

    def outputs(self, options: Options) -> tuple[str, ...]:
        return ("estimators",)

    def path(self, experiment: str, output: str, run: str) -> Path:
        return paths.estimators(experiment, run)

    def settings(self, context: Context, output: str) -> dict:
        return {
            "method": output,
            "posterior": checkpoints.fingerprint(context.posterior),
            "dampings": DAMPINGS,
            "subsets": context.options["subsets"],
            "ablations": context.options["ablations"],
        }

    def compute(self, context: Context, items: range, chunk: int) -> dict[str, xr.Dataset]:
        followed = followed_paces(context)
        try:
            scores = {**of_gradients(context, followed), **of_replays(context)}
        except UserError as error:
            raise UserError(
                f"run {context.run.name}: {error}. Estimators are computed all or none, and their "
                "settings are no flags: give a larger --memory_gb if memory is too small, else "
                "leave this run out by --seed_id of the others"
            ) from error
        score = context.labelled(
            torch.stack(list(scores.values())).float(), ("estimator", "train", "test")
        ).assign_coords(estimator=list(scores))
        horizons = torch.tensor([pace.horizon for pace in followed])
        horizon = context.labelled(horizons, ("checkpoint",))
        dataset = xr.Dataset({"score": score, "horizon": horizon})
        if context.options["subsets"]:
            included_AN = random_halves(context.options["subsets"], len(context.split.train.y))
            loss_AM = on_subsets(context, included_AN, chunk)
            dataset["loss"] = context.labelled(loss_AM, ("subset", "test"))
            dataset["included"] = (("subset", "train"), included_AN)
        return {"estimators": dataset}


def _subsets(text: str) -> int:
    if not 0 <= int(text) < 10**6:
        raise ArgumentTypeError(f"must be a number from 0 on, below a million, not {text}")
    return int(text)


def followed_paces(context: Context) -> list[Pace]:
    """How far the run had come at each checkpoint."""
    one = torch.ones(1, len(context.split.train), device=context.device)
    return paces(
        context.network,
        context.objective,
        context.split.train,
        context.recipe,
        context.members(one),
    )


def of_gradients(context: Context, followed: list[Pace]) -> dict[str, Tensor]:
    """Scores [N M] by estimator, on the CPU, from the gradients of each checkpoint."""
    found: dict[str, list[Tensor]] = {}
    last = len(context.posterior) - 1
    for place, theta_P in enumerate(context.posterior):
        gradients = SampleGradients(
            context.network, context.objective, theta_P,
            train=context.split.train, test=context.split.test, memory_bytes=context.memory_bytes,
        )  # fmt: skip
        for name, scores_NM in _of_sample(gradients, followed[place], place == last):
            found.setdefault(name, []).append(scores_NM.cpu())
    means = {name: torch.stack(scores).double().mean(0) for name, scores in found.items()}
    of_last = {f"{name} of the last checkpoint": found[name][-1].double() for name in AVERAGED}
    return means | of_last


def _of_sample(gradients: SampleGradients, pace: Pace, last: bool) -> Iterator[tuple[str, Tensor]]:
    num_train = len(gradients.train_data)
    yield "grad_dot", grad_dot(gradients)
    yield "grad_cos", grad_cos(gradients)
    for damping in DAMPINGS:
        yield f"influence {damping:g}", filtered_influence(gradients, ridge(damping))
        yield f"flow {1 / damping:g}", filtered_influence(gradients, flow(1 / damping))
    yield "influence horizon", filtered_influence(gradients, ridge(1 / pace.horizon))
    yield "flow horizon", filtered_influence(gradients, flow(pace.horizon))
    yield "influence preconditioned", preconditioned_influence(gradients, pace)
    yield "trak", trak(gradients, int(TRAK_SHARE * num_train))
    if last:
        for name, settings in APPROXIMATE.items():
            yield name, METHODS[name][0](gradients, **settings)


def of_replays(context: Context) -> dict[str, Tensor]:
    """Scores [N M] of replays, whole and without an idea; none of runs with dropout."""
    if context.experiment.family != "cnn":
        return {}
    split = context.split
    asked = (as_posterior(context), context.objective, split.train, split.test)
    scores = {"replay": replay(*asked)}
    if context.options["ablations"]:
        slight = 1 - SMALL * torch.eye(len(split.train))
        scores["replay without size of removal"] = replay(*asked, weights=slight) / SMALL
        scores["replay exact"] = replay(*asked, kind="exact")
        for idea, kind in ABLATIONS.items():
            scores[f"replay without {idea}"] = replay(*asked, kind=kind)
    return {name: torch.from_numpy(s.values[0].mean(0)).double() for name, s in scores.items()}


def as_posterior(context: Context) -> Posterior:
    """A run of an experiment as the library knows it."""
    seed, num_train, network = 0, len(context.split.train.y), context.network
    order = data_order(context.run.order, num_train, context.recipe.epochs)
    training = Training(context.recipe, {seed: context.layout.read(network)}, {seed: order})
    samples = {seed: [context.layout.split(theta_P) for theta_P in context.posterior]}
    names = tuple(context.recipe.kept_epochs)
    return Posterior(lambda: private_copy(network), samples, names, training=training)


def random_halves(count: int, num_train: int) -> np.ndarray:
    """Booleans [A N], half of each row true."""
    rng = np.random.default_rng(SUBSET_SEED)
    ranks_AN = rng.random((count, num_train)).argsort(1).argsort(1)
    return ranks_AN < num_train // 2


def on_subsets(context: Context, included_AN: np.ndarray, chunk: int) -> Tensor:
    """Test losses [A M] of models trained on subsets, from the run's initialisation and order."""
    weight_AN = torch.from_numpy(included_AN).float().to(context.device)
    loss_CAM = retrained_losses(
        context.network, context.objective, context.recipe, context.members(weight_AN),
        train_data=context.split.train, test_data=context.split.test,
        chunk=chunk, tf32=context.options.tf32,
    )  # fmt: skip
    return loss_CAM.mean(0)
