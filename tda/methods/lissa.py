"""Influence by LiSSA, as published: a short stochastic recursion on the loss's true Hessian."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from tda.data import Data
from tda.gradients import SampleGradients
from tda.parameters import Parameters


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


def lissa_influence(gradients: SampleGradients, settings: Lissa, *, block: int = 64) -> Tensor:
    r"""Scores [N M]: :math:`-(v/c)^\top \nabla L(z_j)` with v from :class:`Lissa` at ∇L(z).

    Negative = helpful (Koh and Liang 2017, section 3). The recursion is linear and each H_b
    symmetric, so it is run on the training side, with the batches in reversed order: N and not M
    vectors, and the same result. Costs steps · N Hessian-vector products of batches.

    Args:
        gradients: of one sample of θ.
        settings: the recursion's constants.
        block: vectors and examples at a time; changes only the speed and memory.
    """
    layout = Parameters(gradients.network)
    train, theta_P = gradients.train_data, gradients.theta_P
    vectors_NP = _loss_gradients(gradients, layout, train, block)
    sum_NP = vectors_NP.clone()
    for batch in reversed(_batches(len(train.y), settings)):
        products = hessian_products(gradients, layout, theta_P, train, batch)
        vectors_NP = (1 - settings.damping) * vectors_NP - products(vectors_NP) / settings.scale
        sum_NP += vectors_NP
    test_blocks = [
        _loss_gradients(gradients, layout, _take(gradients.test_data, chosen), block)
        for chosen in _slices(len(gradients.test_data.y), 4 * block)
    ]
    return -torch.cat([sum_NP @ test_BP.T for test_BP in test_blocks], dim=1) / settings.scale


def hessian_products(
    gradients: SampleGradients, layout: Parameters, theta_P: Tensor, data: Data, batch: Tensor
) -> Callable[[Tensor], Tensor]:
    """The map from vectors [V P] to H v [V P], H the Hessian of a batch's mean loss."""
    theta_P = theta_P.detach().requires_grad_()
    output = functional_call(gradients.network, layout.split(theta_P), (data.x[batch],))
    loss = gradients.objective.loss(output, data.y[batch]).mean()
    (gradient_P,) = torch.autograd.grad(loss, theta_P, create_graph=True)

    def products(vectors_VP: Tensor) -> Tensor:
        # One by one: batched double backward fails in channels-last convolutions (torch 2.13).
        pull = partial(torch.autograd.grad, gradient_P, theta_P, retain_graph=True)
        return torch.stack([pull(vector_P)[0] for vector_P in vectors_VP])

    return products


def _loss_gradients(
    gradients: SampleGradients, layout: Parameters, data: Data, block: int
) -> Tensor:
    """∇L [B P] of each example, in the order of θ."""

    def loss(theta_P: Tensor, x: Tensor, y: Tensor) -> Tensor:
        output = functional_call(gradients.network, layout.split(theta_P), (x[None],))
        return gradients.objective.loss(output, y[None])[0]

    per_example = vmap(grad(loss), in_dims=(None, 0, 0), chunk_size=block)
    return per_example(gradients.theta_P, data.x, data.y)


def _batches(num_train: int, settings: Lissa) -> list[Tensor]:
    batches = list(torch.arange(num_train).split(settings.batch_size))
    steps = len(batches) if settings.steps is None else settings.steps
    return [batches[step % len(batches)] for step in range(steps)]


def _take(data: Data, chosen: slice) -> Data:
    return Data(x=data.x[chosen], y=data.y[chosen], index=data.index[chosen])


def _slices(count: int, block: int) -> list[slice]:
    return [slice(start, min(start + block, count)) for start in range(0, count, block)]
