"""Our side of the benchmark: all scores of one run, as the stages compute them, in memory."""

from collections.abc import Callable

import torch
from torch import Tensor

from bayestda.experiments.stages.commands import DAMPINGS
from bayestda.experiments.stages.context import Context, context_of
from bayestda.gradients.sample import SampleGradients
from bayestda.methods.grad_cos import grad_cos
from bayestda.methods.grad_dot import grad_dot
from bayestda.methods.lissa import PUBLISHED, lissa_influence
from bayestda.retraining.additional_step import additional_training_step, step_recipe
from bayestda.retraining.leave_one_out import removals, retrained_losses
from bayestda.scores.requests import sample_scores
from bayestda.training.loop import train


def train_run_of(key: tuple) -> Tensor:
    """Checkpoints of the run that a worker makes from a key."""
    return train_run(context_of(Context, *key))


def score_run(scores: Callable, key: tuple, theta_CP: Tensor) -> None:
    """All scores of one method for one run; they stay in the worker."""
    scores(context_of(Context, *key), theta_CP)


def warm_up(key: tuple) -> None:
    """Everything that a worker's first use would set up."""
    theta_CP = train_run(context_of(Context, *key))[-1:]
    gradient_scores(context_of(Context, *key), theta_CP)
    influence_exact(context_of(Context, *key), theta_CP)


def train_run(context: Context) -> Tensor:
    """Checkpoints of one run [C P]."""
    members = context.members(torch.ones(1, len(context.split.train.y)))
    trained = train(
        context.network, context.objective, context.split.train, context.recipe, members
    )
    return next(trained)[1][:, 0]


def leave_one_out(context: Context, _theta_CP: Tensor) -> Tensor:
    """LOO of one run [C N M]: the base run and N retrainings, each for all checkpoints."""
    num_train = len(context.split.train.y)
    members = context.members(removals(num_train, range(num_train + 1)))
    loss_CRM = retrained_losses(
        context.network, context.objective, context.recipe, members,
        train_data=context.split.train, test_data=context.split.test,
    )  # fmt: skip
    return loss_CRM[:, 1:] - loss_CRM[:, :1]


def additional_steps(context: Context, theta_CP: Tensor) -> list[Tensor]:
    """ATS of one run, as the released code means it: a fresh Adam step."""
    recipe = step_recipe(context.recipe, "adam")
    return [
        additional_training_step(
            context.network, context.objective, theta_P, recipe,
            examples=context.split.train, test=context.split.test,
        )
        for theta_P in theta_CP
    ]  # fmt: skip


def influence_exact(context: Context, theta_CP: Tensor) -> list[Tensor]:
    """Damped Gauss-Newton influence of one run, with all default dampings."""
    return [
        sample_scores(_gradients(context, theta_P), ["influence"], {"damping": list(DAMPINGS)})[
            "influence"
        ]
        for theta_P in theta_CP
    ]


def influence_lissa(context: Context, theta_CP: Tensor) -> list[Tensor]:
    """Influence of one run by the published recursion, as ``--solver lissa``."""
    return [lissa_influence(_gradients(context, theta_P), PUBLISHED) for theta_P in theta_CP]


def gradient_scores(context: Context, theta_CP: Tensor) -> list[list[Tensor]]:
    """Grad-Dot and Grad-Cos of one run, from one pass over the gradients."""
    both = (_gradients(context, theta_P) for theta_P in theta_CP)
    return [[grad_dot(gradients), grad_cos(gradients)] for gradients in both]


def _gradients(context: Context, theta_P: Tensor) -> SampleGradients:
    return SampleGradients(
        context.network, context.objective, theta_P,
        train=context.split.train, test=context.split.test, memory_bytes=context.memory_bytes,
    )  # fmt: skip
