"""Influence by LiSSA, as published: a short stochastic recursion on the loss's true Hessian."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bayestda.curvature.degenerate import require_curvature
from bayestda.curvature.vector_products import PRODUCTS
from bayestda.errors import UserError
from bayestda.gradients.blocks import Blocks, by_blocks, chunks, formed, partners
from bayestda.gradients.sample import SampleGradients


@dataclass(frozen=True)
class Lissa:
    r"""Constants of the recursion :math:`v \leftarrow g + (1 - d) v - H_b v / c`, result v / c.

    Started at v = g, one batch b a step. Its fixed point is :math:`(H + d\,c\,I)^{-1} g`: the
    damping of the equation is d · c. All four change the answer until it has converged, which for
    the published values would take tens of thousands of steps.

    Attributes:
        damping: Constant d.
        scale: Constant c. It must exceed half the largest eigenvalue of H + d c I.
        batch_size: Examples whose mean loss gives H_b.
        steps: Number of steps. None is one pass over the training examples.
        curvature: Matrix, ``hessian`` or ``gauss_newton``, in the place of H.
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
        gradients: Gradients of one sample of θ.
        damping: The ridge λ, in units of curvature eigenvalues.
        scale: Constant c. It must exceed half the largest eigenvalue of C + λ I, else the sum
            diverges.
        steps: Number of steps. None is one pass over the training examples. About
            :math:`c / (s + \lambda)` are needed for an eigenvalue s to be inverted.
        batch_size: Examples a step.
        curvature: Matrix C, ``gauss_newton`` or ``hessian``.
    """
    if curvature not in PRODUCTS:
        raise UserError(f"curvature={curvature!r} is unknown: choose one of {', '.join(PRODUCTS)}")
    if curvature == "gauss_newton":
        require_curvature(gradients)
    settings = Lissa(damping / scale, scale, batch_size, steps, curvature)
    return lissa_influence.blocks(gradients, settings)


@by_blocks
def lissa_influence(gradients: SampleGradients, settings: Lissa) -> Blocks:
    r"""Scores [N M]: :math:`(v/c)^\top \nabla L(z_j)` with v from :class:`Lissa` at ∇g(z).

    Positive = helpful (Koh and Liang 2017, section 3). The recursion is linear and each H_b
    symmetric, so that it may be run on the training side instead, with the batches in reversed
    order: on whichever side has fewer examples, with the same result. Costs steps · min(N, M)
    Hessian-vector products of batches.

    Args:
        gradients: Gradients of one sample of θ.
        settings: Constants of the recursion.
    """
    train_side = len(gradients.train_data) <= len(gradients.test_data)
    own, others = gradients.test, gradients.train
    if train_side:
        own, others = others, own
    recursion = _transposed if train_side else _recursion
    each = 5 * gradients.layout.count * gradients.theta_P.element_size()
    for at, rows in chunks(gradients, own, each):
        sum_vP = recursion(gradients, settings, gradients.vectors(rows)[:, 0])
        for across, other in partners(gradients, others, at):
            parts = [sum_vP @ part_bLP[:, 0].T for part_bLP in formed(gradients, other)]
            scores = torch.cat(parts, dim=1) / settings.scale
            yield (at, across, scores) if train_side else (across, at, scores.T)


def _recursion(gradients: SampleGradients, settings: Lissa, start_vP: Tensor) -> Tensor:
    """Return v of each start, by the recursion as it stands."""
    vectors_vP = start_vP
    for batch in _batches(len(gradients.train_data), settings):
        vectors_vP = start_vP + _step(gradients, settings, batch, vectors_vP)
    return vectors_vP


def _transposed(gradients: SampleGradients, settings: Lissa, vectors_vP: Tensor) -> Tensor:
    """Return the recursion's transposed matrix times vectors, term by term, last batch first."""
    sum_vP = vectors_vP.clone()
    for batch in reversed(_batches(len(gradients.train_data), settings)):
        vectors_vP = _step(gradients, settings, batch, vectors_vP)
        sum_vP += vectors_vP
    return sum_vP


def _step(gradients: SampleGradients, settings: Lissa, batch: Tensor, vectors_vP: Tensor) -> Tensor:
    products = PRODUCTS[settings.curvature](gradients, gradients.train_data.take(batch))
    return (1 - settings.damping) * vectors_vP - products(vectors_vP) / settings.scale


def _batches(num_train: int, settings: Lissa) -> list[Tensor]:
    batches = list(torch.arange(num_train).split(settings.batch_size))
    steps = len(batches) if settings.steps is None else settings.steps
    return [batches[step % len(batches)] for step in range(steps)]
