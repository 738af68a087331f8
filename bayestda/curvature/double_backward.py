"""Products of curvature matrices with vectors by double backward passes.

A product is taken for many vectors in one batched pass, or one vector after the other.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from bayestda.gradients.sample import SampleGradients
from bayestda.model.calls import output_at
from bayestda.model.examples import Data
from bayestda.model.written_out import twice_differentiable

Products = Callable[[Tensor], Tensor]  # vectors [V P] -> C v [V P]
TOGETHER = 128  # vectors in one batched backward pass; changes only speed and memory


def hessian_products(gradients: SampleGradients, data: Data, *, batched: bool) -> Products:
    """Return products with the Hessian of a batch's mean loss."""
    theta_P, output_BK = graph(gradients, data)
    with twice_differentiable():
        loss = gradients.objective.loss(output_BK, data.y).mean()
        gradient_P = _gradient(loss, theta_P)
    return lambda vectors_VP: _each(gradient_P, theta_P, vectors_VP, batched)


def gauss_newton_products(gradients: SampleGradients, data: Data, *, batched: bool) -> Products:
    r"""Return products with :math:`\frac{1}{B}\sum_b J_b^\top S_b J_b`.

    S is the loss's Hessian in the output. J v is the derivative of Jᵀu in u (Pearlmutter's trick,
    backward twice): four passes a vector.
    """
    theta_P, output_BK = graph(gradients, data)
    in_output_BKK = output_hessians(gradients, data, output_BK)
    u_BK = torch.zeros_like(output_BK, requires_grad=True)
    with twice_differentiable():
        (pulled_P,) = torch.autograd.grad(output_BK, theta_P, u_BK, create_graph=True)

    def products(vectors_VP: Tensor) -> Tensor:
        pushed_VBK = _each(pulled_P, u_BK, vectors_VP, batched)
        weighted_VBK = (in_output_BKK @ pushed_VBK[..., None])[..., 0]
        return _each(output_BK, theta_P, weighted_VBK, batched)

    return products


def example_hessian_products(gradients: SampleGradients, data: Data, vector_P: Tensor) -> Tensor:
    """Return ∇²L(z_i) v of a batch's examples [B P], one after the other."""
    products = []
    for b in range(len(data)):
        theta_P, output_1K = graph(gradients, data.take(slice(b, b + 1)))
        with twice_differentiable():
            loss = gradients.objective.loss(output_1K, data.y[b : b + 1]).sum()
            gradient_P = _gradient(loss, theta_P)
        products.append(_each(gradient_P, theta_P, vector_P[None], batched=False)[0])
    return torch.stack(products)


def graph(gradients: SampleGradients, data: Data) -> tuple[Tensor, Tensor]:
    """Return θ as a leaf, and the outputs [B K] that it gives."""
    theta_P = gradients.theta_P.detach().clone().requires_grad_()
    named = gradients.layout.split(theta_P)
    with twice_differentiable():
        return theta_P, output_at(gradients.network, gradients.objective, named, data.x)


def output_hessians(gradients: SampleGradients, data: Data, output_BK: Tensor) -> Tensor:
    """Return S/B [B K K], the Hessians in the output of the batch's mean loss."""
    wide_BK = output_BK.detach().double()
    root_BKK = gradients.objective.hessian_root(wide_BK, data.y).to(output_BK.dtype)
    return root_BKK @ root_BKK.mT / len(data)


def loss_gradient(gradients: SampleGradients, data: Data, theta_P: Tensor) -> Tensor:
    """Return the gradient [P] of the batch's mean loss at any θ, by one backward pass."""
    leaf_P = theta_P.detach().requires_grad_()
    with torch.enable_grad(), twice_differentiable():
        named = gradients.layout.split(leaf_P)
        output_BK = output_at(gradients.network, gradients.objective, named, data.x)
        loss = gradients.objective.loss(output_BK, data.y).mean()
        return torch.autograd.grad(loss, leaf_P)[0]


def _gradient(loss: Tensor, theta_P: Tensor) -> Tensor:
    return torch.autograd.grad(loss, theta_P, create_graph=True)[0]


def _each(value: Tensor, leaf: Tensor, vectors_V: Tensor, batched: bool) -> Tensor:
    """Return vector-Jacobian products [V ...] of a value in a leaf."""
    if not value.requires_grad:  # it is constant, as far as autograd knows
        return leaf.new_zeros(len(vectors_V), *leaf.shape)
    found = [
        torch.autograd.grad(
            value, leaf, chunk, retain_graph=True, is_grads_batched=batched,
            allow_unused=True, materialize_grads=True,
        )[0]
        for chunk in (vectors_V.split(TOGETHER) if batched else vectors_V)
    ]  # fmt: skip
    return torch.cat(found) if batched else torch.stack(found)
