"""Influence by LiSSA, as published: a short stochastic recursion on the loss's true Hessian."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tda.gradients import SampleGradients
from tda.products import hessian_products


@dataclass(frozen=True)
class Lissa:
    r"""Constants of the recursion :math:`v \leftarrow g + (1 - d) v - H_b v / c`, result v / c.

    Started at v = g, one batch b a step. Its fixed point is :math:`(H + d\,c\,I)^{-1} g`: the
    damping of the equation is d · c. All four change the answer until it has converged, which for
    the published values would take tens of thousands of steps.

    Attributes:
        damping: d.
        scale: c, must exceed half the largest eigenvalue of H + d c I.
        batch_size: examples whose mean loss gives H_b.
        steps: number of steps; None is one pass over the training examples.
    """

    damping: float
    scale: float
    batch_size: int
    steps: int | None


PUBLISHED = Lissa(damping=0.005, scale=1e4, batch_size=8, steps=None)  # λ = 50 in 4 to 63 steps


def lissa_influence(gradients: SampleGradients, settings: Lissa) -> Tensor:
    r"""Scores [N M]: :math:`-(v/c)^\top \nabla L(z_j)` with v from :class:`Lissa` at ∇L(z).

    Negative = helpful (Koh and Liang 2017, section 3). The recursion is linear and each H_b
    symmetric, so it is run on the training side, with the batches in reversed order: N and not M
    vectors, and the same result. Costs steps · N Hessian-vector products of batches.

    Args:
        gradients: of one sample of θ.
        settings: the recursion's constants.
    """
    vectors_NP = torch.cat([gradients.vectors(rows)[:, 0] for _, rows in gradients.train])
    sum_NP = vectors_NP.clone()
    for batch in reversed(_batches(len(gradients.train_data), settings)):
        products = hessian_products(gradients, gradients.train_data.take(batch))
        vectors_NP = (1 - settings.damping) * vectors_NP - products(vectors_NP) / settings.scale
        sum_NP += vectors_NP
    test = [sum_NP @ gradients.vectors(rows)[:, 0].T for _, rows in gradients.test]
    return -torch.cat(test, dim=1) / settings.scale


def _batches(num_train: int, settings: Lissa) -> list[Tensor]:
    batches = list(torch.arange(num_train).split(settings.batch_size))
    steps = len(batches) if settings.steps is None else settings.steps
    return [batches[step % len(batches)] for step in range(steps)]
