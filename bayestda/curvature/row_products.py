"""Products with the Gauss-Newton matrix by rows of J, which need no second derivative."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from bayestda.curvature.double_backward import Products, graph, output_hessians
from bayestda.gradients.blocks import FORMED
from bayestda.gradients.sample import SampleGradients, output_cotangents
from bayestda.model.calls import output_at
from bayestda.model.examples import Data, blocks


def products_of_rows(gradients: SampleGradients, data: Data, *, apart: bool) -> Products:
    r"""Return products with :math:`\frac{1}{B}\sum_b J_b^\top S_b J_b`.

    Rows J_b are formed anew for every product, unless memory has room for all of them.

    Args:
        gradients: Gradients of one sample of θ.
        data: A batch of examples.
        apart: Whether each row takes a backward pass of its own, which any network allows.
    """
    made = _rows_apart if apart else _rows
    output_BK = graph(gradients, data)[1].detach()
    in_output_BKK = output_hessians(gradients, data, output_BK)
    room = gradients.memory_bytes * FORMED / (4 * output_BK.shape[1] * gradients.theta_P.nbytes)
    size = min(len(data), max(1, int(room)))
    kept = list(made(gradients, data, size)) if size == len(data) else None

    def products(vectors_VP: Tensor) -> Tensor:
        total_VP = torch.zeros_like(vectors_VP)
        start = 0
        for jacobian_bKP in made(gradients, data, size) if kept is None else kept:
            in_output_bKK = in_output_BKK[start : start + len(jacobian_bKP)]
            start += len(jacobian_bKP)
            pushed_VbK1 = (vectors_VP @ jacobian_bKP.flatten(0, 1).T).unflatten(
                1, jacobian_bKP.shape[:2]
            )[..., None]
            weighted_VbK = (in_output_bKK @ pushed_VbK1)[..., 0]
            total_VP += weighted_VbK.flatten(1) @ jacobian_bKP.flatten(0, 1)
        return total_VP

    return products


def pulled_back(gradients: SampleGradients, data: Data) -> Callable[[Tensor], Tensor]:
    """Return Jᵀ S f as a function of the θ of f, whose derivative is the Gauss-Newton matrix.

    J and S are those at the sample's θ.
    """
    theta_P, output_BK = graph(gradients, data)
    in_output_BKK = output_hessians(gradients, data, output_BK)

    def pulled(moved_P: Tensor) -> Tensor:
        with torch.no_grad():
            named = gradients.layout.split(moved_P)
            moved_BK = output_at(gradients.network, gradients.objective, named, data.x)
            weighted_BK = (in_output_BKK @ moved_BK[..., None])[..., 0]
        return torch.autograd.grad(output_BK, theta_P, weighted_BK, retain_graph=True)[0]

    return pulled


def _rows(gradients: SampleGradients, data: Data, size: int) -> Iterator[Tensor]:
    """Yield the Jacobian of blocks of examples [b K P]."""
    for batch in blocks(data, size):
        yield gradients.vectors(gradients.captured(batch.x, output_cotangents))


def _rows_apart(gradients: SampleGradients, data: Data, size: int) -> Iterator[Tensor]:
    """Yield the same, by one backward pass for each output."""
    for batch in blocks(data, size):
        theta_P, output_BK = graph(gradients, batch)
        pulled = [
            torch.autograd.grad(output, theta_P, retain_graph=True)[0]
            for output in output_BK.flatten()
        ]
        yield torch.stack(pulled).unflatten(0, output_BK.shape)
