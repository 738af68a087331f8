"""Influence by LiSSA, as published: a short stochastic recursion on the loss's true Hessian."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tda.errors import UserError
from tda.gradients import SampleGradients
from tda.products import PRODUCTS
from tda.streams import Blocks, by_blocks, chunks, formed, partners


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
        curvature: ``hessian`` or ``gauss_newton`` in the place of H.
    """

    damping: float
    scale: float
    batch_size: int
    steps: int | None
    curvature: str = "hessian"


PUBLISHED = Lissa(damping=0.005, scale=1e4, batch_size=8, steps=None)  # λ = 50 in 4 to 63 steps


@by_blocks
def lissa(
    gradients: SampleGradients,
    damping: float,
    *,
    scale: float,
    steps: int | None = None,
    batch_size: int = 8,
    curvature: str = "gauss_newton",
) -> Blocks:
    r"""Scores [N M]: :math:`\nabla g(z)^\top (C + \lambda I)^{-1} \nabla L(z_j)`, approximately.

    Positive = helpful. See :func:`lissa_influence`; here λ is that of the equation, :math:`d c`.

    Args:
        gradients: of one sample of θ.
        damping: λ.
        scale: c, must exceed half the largest eigenvalue of C + λ I, else the sum diverges.
        steps: number of steps; None is one pass over the training examples. About
            :math:`c / (s + \lambda)` are needed for an eigenvalue s to be inverted.
        batch_size: examples a step.
        curvature: ``gauss_newton`` or ``hessian``.
    """
    if curvature not in PRODUCTS:
        raise UserError(f"curvature={curvature!r} is unknown: choose one of {', '.join(PRODUCTS)}")
    settings = Lissa(damping / scale, scale, batch_size, steps, curvature)
    return lissa_influence.blocks(gradients, settings)


@by_blocks
def lissa_influence(gradients: SampleGradients, settings: Lissa) -> Blocks:
    r"""Scores [N M]: :math:`(v/c)^\top \nabla L(z_j)` with v from :class:`Lissa` at ∇g(z).

    Positive = helpful (Koh and Liang 2017, section 3). The recursion is linear and each H_b
    symmetric, so it is run on the training side, with the batches in reversed order: N and not M
    vectors, and the same result. Costs steps · N Hessian-vector products of batches.

    Args:
        gradients: of one sample of θ.
        settings: the recursion's constants.
    """
    each = 5 * gradients.layout.count * gradients.theta_P.element_size()
    for rows, train in chunks(gradients, gradients.train, each):
        sum_nP = _recursion(gradients, gradients.vectors(train)[:, 0], settings)
        for columns, test in partners(gradients, gradients.test, rows):
            parts = [sum_nP @ part_bLP[:, 0].T for part_bLP in formed(gradients, test)]
            yield rows, columns, torch.cat(parts, dim=1) / settings.scale


def _recursion(gradients: SampleGradients, vectors_nP: Tensor, settings: Lissa) -> Tensor:
    sum_nP = vectors_nP.clone()
    for batch in reversed(_batches(len(gradients.train_data), settings)):
        products = PRODUCTS[settings.curvature](gradients, gradients.train_data.take(batch))
        vectors_nP = (1 - settings.damping) * vectors_nP - products(vectors_nP) / settings.scale
        sum_nP += vectors_nP
    return sum_nP


def _batches(num_train: int, settings: Lissa) -> list[Tensor]:
    batches = list(torch.arange(num_train).split(settings.batch_size))
    steps = len(batches) if settings.steps is None else settings.steps
    return [batches[step % len(batches)] for step in range(steps)]
