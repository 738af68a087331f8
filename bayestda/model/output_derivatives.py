"""Differentiate a loss twice in the outputs of a network, for a whole batch at once."""

from collections.abc import Callable

import torch
from torch import Tensor

from bayestda.errors import UserError, out_of_memory
from bayestda.model.second_derivatives import agrees, differences, probe

_MEND = (
    "write the loss in operations of torch that can be differentiated twice, or use grad_dot, "
    "grad_cos, tracin, trak or replay, which take its gradient only"
)


def loss_derivatives(loss: Callable[[Tensor], Tensor], output_BK: Tensor) -> tuple[Tensor, Tensor]:
    """Return gradients [B K] and Hessians [B K K] of examples' losses in their outputs.

    As an example's loss depends on its own outputs alone, one backward pass gives a row of every
    example's Hessian. The Hessians are compared with differences of the gradients, as some losses
    have derivatives of their own that count as constant when they are differentiated again.

    Args:
        loss: A function from outputs [B K] to losses [B].
        output_BK: Outputs.

    Raises:
        UserError: The loss cannot be differentiated twice.
    """
    with torch.enable_grad():
        leaf_BK = output_BK.detach().requires_grad_()
        gradient_BK = _gradient(loss, leaf_BK, create_graph=True)
        rows = [_row(gradient_BK[:, k], leaf_BK) for k in range(leaf_BK.shape[1])]
    hessian_BKK = torch.stack(rows, dim=1)
    _check(loss, output_BK.detach(), hessian_BKK)
    return gradient_BK.detach(), hessian_BKK


def _gradient(
    loss: Callable[[Tensor], Tensor], leaf_BK: Tensor, *, create_graph: bool = False
) -> Tensor:
    total = loss(leaf_BK).sum()
    if not total.requires_grad:  # a constant
        return torch.zeros_like(leaf_BK)
    (gradient_BK,) = torch.autograd.grad(
        total, leaf_BK, create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
    return gradient_BK


def _row(slope_B: Tensor, leaf_BK: Tensor) -> Tensor:
    """Derivative [B K] of each example's slope in one output."""
    if not slope_B.requires_grad:  # the loss is linear, or claims to be
        return torch.zeros_like(leaf_BK)
    try:
        (row_BK,) = torch.autograd.grad(
            slope_B.sum(), leaf_BK, retain_graph=True, allow_unused=True, materialize_grads=True
        )
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise UserError(
            f"the loss cannot be differentiated twice ({str(error).splitlines()[0]}): {_MEND}"
        ) from error
    return row_BK


def _check(loss: Callable[[Tensor], Tensor], output_BK: Tensor, hessian_BKK: Tensor) -> None:
    def gradient(output: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf_BK = output.view_as(output_BK).detach().requires_grad_()
            return _gradient(loss, leaf_BK).flatten()

    along_BK = probe(output_BK)
    found_BK = (hessian_BKK @ along_BK[..., None])[..., 0]
    wanted = differences(gradient, output_BK.flatten(), along_BK.flatten())
    if not agrees(found_BK.flatten(), wanted):
        raise UserError(
            "the loss's second derivative in the output differs from differences of its gradient, "
            f"as that of a function with a backward pass of its own: {_MEND}"
        )
