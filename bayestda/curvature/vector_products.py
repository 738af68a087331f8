"""Products of curvature matrices with vectors, without forming the matrices."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from bayestda.gradients.sample import SampleGradients
from bayestda.model.examples import Data, rows_of
from bayestda.model.objective import output_at

Products = Callable[[Tensor], Tensor]  # vectors [V P] -> C v [V P]
TOGETHER = 128  # vectors in one batched backward pass; changes only speed and memory
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def hessian_products(gradients: SampleGradients, data: Data) -> Products:
    """Return products with the Hessian of a batch's mean loss, by double backward passes."""
    theta_P, output_BK = _graph(gradients, data)
    with sdpa_kernel(SDPBackend.MATH):  # faster kernels of attention have no second derivative
        loss = gradients.objective.loss(output_BK, data.y).mean()
        (gradient_P,) = torch.autograd.grad(loss, theta_P, create_graph=True)

    return lambda vectors_VP: _each(gradients.network, gradient_P, theta_P, vectors_VP)


def gauss_newton_products(gradients: SampleGradients, data: Data) -> Products:
    r"""Return products with :math:`\frac{1}{B}\sum_b J_b^\top S_b J_b`.

    S is the loss's Hessian in the output. J v is the derivative of Jᵀu in u (Pearlmutter's trick,
    backward twice), so that any network that can be trained will do: four passes a vector.
    """
    theta_P, output_BK = _graph(gradients, data)
    wide_BK = output_BK.detach().double()
    root_BKK = gradients.objective.hessian_root(wide_BK, data.y).to(output_BK.dtype)
    in_output_BKK = root_BKK @ root_BKK.mT / len(data)
    u_BK = torch.zeros_like(output_BK, requires_grad=True)
    with sdpa_kernel(SDPBackend.MATH):
        (pulled_P,) = torch.autograd.grad(output_BK, theta_P, u_BK, create_graph=True)

    def products(vectors_VP: Tensor) -> Tensor:
        pushed_VBK = _each(gradients.network, pulled_P, u_BK, vectors_VP)
        weighted_VBK = (in_output_BKK @ pushed_VBK[..., None])[..., 0]
        return _each(gradients.network, output_BK, theta_P, weighted_VBK)

    return products


def largest_eigenvalue(products: Products, like_P: Tensor, steps: int = 30) -> float:
    """Return the largest eigenvalue of a positive semi-definite C, from below, by power iteration.

    Args:
        products: Products with C.
        like_P: A vector of C's size, dtype and device.
        steps: Number of products with C.
    """
    generator = torch.Generator().manual_seed(0)
    vector_1P = torch.randn(1, len(like_P), generator=generator).to(like_P)
    for _ in range(steps):
        vector_1P = products(vector_1P / vector_1P.norm())
    return float(vector_1P.norm())


def _each(network: nn.Module, value: Tensor, leaf: Tensor, vectors_V: Tensor) -> Tensor:
    """Return vector-Jacobian products [V ...] of a value in a leaf.

    Some vectors go together, where that is faster. Convolutions gain nothing, and their batched
    double backward fails in channels-last layout (torch 2.13).
    """
    one_by_one = any(isinstance(module, _CONVOLUTIONS) for module in network.modules())
    chunks = vectors_V if one_by_one else vectors_V.split(TOGETHER)
    found = [
        torch.autograd.grad(
            value, leaf, chunk, retain_graph=True, is_grads_batched=not one_by_one
        )[0]
        for chunk in chunks
    ]  # fmt: skip
    return torch.stack(found) if one_by_one else torch.cat(found)


def _graph(gradients: SampleGradients, data: Data) -> tuple[Tensor, Tensor]:
    """Return θ as a leaf, and the outputs [B K] that it gives."""
    theta_P = gradients.theta_P.detach().clone().requires_grad_()
    named = gradients.layout.split(theta_P)
    with sdpa_kernel(SDPBackend.MATH):
        return theta_P, output_at(gradients.network, gradients.objective, named, data.x)


PRODUCTS = {"gauss_newton": gauss_newton_products, "hessian": hessian_products}


def mean_gradient(gradients: SampleGradients) -> Tensor:
    """Return ∇R [P], the mean of the training gradients."""
    total_P = torch.zeros_like(gradients.theta_P)
    for _, rows in gradients.train:
        total_P += gradients.vectors(rows)[:, 0].sum(0)
    return total_P / len(gradients.train_data)


def example_hessian_products(gradients: SampleGradients, vector_P: Tensor) -> Iterator[Tensor]:
    """Yield ∇²L(z_i) v of blocks of the training examples [B P]."""
    objective, network = gradients.objective, gradients.network
    layout = gradients.layout

    def loss(theta_P: Tensor, x: Tensor, y: Tensor) -> Tensor:
        output_1K = output_at(network, objective, layout.split(theta_P), rows_of(x, None))
        return objective.loss(output_1K, y[None])[0]

    def slope(theta_P: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return grad(loss)(theta_P, x, y) @ vector_P

    product = vmap(grad(slope), in_dims=(None, 0, 0))
    for start in range(0, len(gradients.train_data), gradients.train.block):
        stop = min(start + gradients.train.block, len(gradients.train_data))
        batch = gradients.train_data.take(slice(start, stop))
        with sdpa_kernel(SDPBackend.MATH):  # faster kernels of attention have no second derivative
            turned_BP = product(gradients.theta_P, batch.x, batch.y).detach()
        yield turned_BP
