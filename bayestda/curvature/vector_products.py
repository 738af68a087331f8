"""Products of curvature matrices with vectors, without forming the matrices.

There are several ways to a product. The first one that is right on a few examples is used
(:mod:`bayestda.model.second_derivatives`).
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from bayestda.curvature import double_backward
from bayestda.curvature.double_backward import Products, loss_gradient
from bayestda.curvature.row_products import products_of_rows, pulled_back
from bayestda.gradients.sample import SampleGradients
from bayestda.model.calls import output_at
from bayestda.model.examples import Data, blocks
from bayestda.model.inputs import rows_of
from bayestda.model.second_derivatives import agrees, differences, first_right, probe
from bayestda.model.written_out import twice_differentiable, written_out

Way = Callable[..., Any]
_WRITTEN = "double backward passes with layers written out"
FEW = 4  # examples on which a way is looked at
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_MEND = (
    "use a method without the Hessian (influence, influence_cg, influence_projected, "
    "influence_ekfac), or write the layer or loss in operations of torch that can be "
    "differentiated twice"
)


def hessian_products(gradients: SampleGradients, data: Data) -> Products:
    """Return products with the Hessian of a batch's mean loss.

    Raises:
        UserError: The network or its loss cannot be differentiated twice.
    """
    return _hessian_way(gradients)(gradients, data)


def gauss_newton_products(gradients: SampleGradients, data: Data) -> Products:
    r"""Return products with :math:`\frac{1}{B}\sum_b J_b^\top S_b J_b`.

    S is the loss's Hessian in the output. Any network that can be trained will do.
    """
    return _gauss_newton_way(gradients)(gradients, data)


def example_hessian_products(gradients: SampleGradients, vector_P: Tensor) -> Iterator[Tensor]:
    """Yield ∇²L(z_i) v of blocks of the training examples [B P].

    Raises:
        UserError: The network or its loss cannot be differentiated twice.
    """
    way = _example_way(gradients, vector_P)
    for batch in blocks(gradients.train_data, gradients.train.block):
        yield way(gradients, batch, vector_P)


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


PRODUCTS = {"gauss_newton": gauss_newton_products, "hessian": hessian_products}


def mean_gradient(gradients: SampleGradients) -> Tensor:
    """Return ∇R [P], the mean of the training gradients."""
    total_P = torch.zeros_like(gradients.theta_P)
    for _, rows in gradients.train:
        total_P += gradients.vectors(rows)[:, 0].sum(0)
    return total_P / len(gradients.train_data)


def _hessian_way(gradients: SampleGradients) -> Way:
    """Find the way to products with the Hessian."""
    few, theta_P = gradients.train_data.take(slice(FEW)), gradients.theta_P

    def found() -> Way:
        along_2P = probe(theta_P, (2,))
        wanted = differences(partial(loss_gradient, gradients, few), theta_P, along_2P[1])
        return first_right(
            _by_double_backward(gradients.network, double_backward.hessian_products),
            lambda way: agrees(way(gradients, few)(along_2P)[1], wanted),
            "the Hessian of the loss", _MEND,
        )  # fmt: skip

    return _kept(gradients, "hessian", found)


def _gauss_newton_way(gradients: SampleGradients) -> Way:
    """Find the way to products with the Gauss-Newton matrix."""
    few, theta_P = gradients.train_data.take(slice(FEW)), gradients.theta_P

    def found() -> Way:
        along_2P = probe(theta_P, (2,))
        wanted = differences(pulled_back(gradients, few), theta_P, along_2P[1])
        ways = _by_double_backward(gradients.network, double_backward.gauss_newton_products)
        del ways[_WRITTEN]  # rows need no second derivative at all
        ways["rows of the Jacobian"] = partial(products_of_rows, apart=False)
        ways["a backward pass for each output"] = partial(products_of_rows, apart=True)
        return first_right(
            ways,
            lambda way: agrees(way(gradients, few)(along_2P)[1], wanted),
            "the Gauss-Newton matrix", _MEND,
        )  # fmt: skip

    return _kept(gradients, "gauss_newton", found)


def _example_way(gradients: SampleGradients, vector_P: Tensor) -> Way:
    """Find the way to examples' Hessian-vector products."""
    few = gradients.train_data.take(slice(FEW))

    def each(theta_P: Tensor) -> Tensor:
        ones = [few.take(slice(b, b + 1)) for b in range(len(few))]
        return torch.stack([loss_gradient(gradients, one, theta_P) for one in ones])

    def found() -> Way:
        wanted = differences(each, gradients.theta_P, vector_P)
        ways = {
            "vmap": _stacked_example_products,
            "double backward passes": double_backward.example_hessian_products,
            _WRITTEN: _in_written_out(double_backward.example_hessian_products),
        }
        return first_right(
            ways,
            lambda way: agrees(way(gradients, few, vector_P), wanted),
            "the Hessian of an example's loss", _MEND,
        )  # fmt: skip

    return _kept(gradients, "example", found)


def _kept(gradients: SampleGradients, name: str, found: Callable[[], Way]) -> Way:
    """Return a sample's way, which is looked for once."""
    key = f"way to {name} products"
    if key not in gradients.kept:
        gradients.kept[key] = found()
    return gradients.kept[key]


def _by_double_backward(network: nn.Module, way: Way) -> dict[str, Way]:
    """Return the ways of double backward passes, by name.

    Convolutions gain nothing from batched passes, which fail in channels-last layout (torch 2.13).
    """
    ways: dict[str, Way] = {
        "batched double backward passes": partial(way, batched=True),
        "double backward passes": partial(way, batched=False),
        _WRITTEN: _in_written_out(partial(way, batched=False)),
    }
    if any(isinstance(module, _CONVOLUTIONS) for module in network.modules()):
        del ways["batched double backward passes"]
    return ways


def _in_written_out(way: Way) -> Way:
    """Return a way whose forward passes take no fused kernels."""

    def written(*args: Any) -> Any:
        with written_out():
            return way(*args)

    return written


def _stacked_example_products(gradients: SampleGradients, data: Data, vector_P: Tensor) -> Tensor:
    """Return ∇²L(z_i) v of a batch's examples [B P], all at once."""
    objective, network = gradients.objective, gradients.network
    layout = gradients.layout

    def loss(theta_P: Tensor, x: Tensor, y: Tensor) -> Tensor:
        output_1K = output_at(network, objective, layout.split(theta_P), rows_of(x, None))
        return objective.loss(output_1K, y[None])[0]

    def slope(theta_P: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return grad(loss)(theta_P, x, y) @ vector_P

    with twice_differentiable():
        product = vmap(grad(slope), in_dims=(None, 0, 0))
        return product(gradients.theta_P, data.x, data.y).detach()
