"""Refuse curvature that is zero, with which influence would be Grad-Dot by another name."""

from collections.abc import Iterator

import torch
from torch import Tensor

from bayestda.errors import UserError, out_of_memory
from bayestda.gradients.sample import SampleGradients
from bayestda.model.calls import outputs
from bayestda.model.examples import EVALUATION_BATCH, blocks
from bayestda.model.objective import Objective

# Curvature, as a share of the gradient, that is rounding: outputs would have to be of the size
# 1e13 for it to matter.
_ROUNDING = 1e-13
_NUMBERS = 2**22  # of the roots that are held at a time


def require_curvature(gradients: SampleGradients) -> None:
    """Require that the loss of some training example has curvature in the network's output.

    One block of examples is enough for most losses. All are looked at only where none has any.

    Raises:
        UserError: The loss has a slope in the output, but is linear in it for all examples.
    """
    if "has curvature" not in gradients.kept:
        _refuse_flat(gradients)
        gradients.kept["has curvature"] = True


def _refuse_flat(gradients: SampleGradients) -> None:
    slope = 0.0
    for output_BK, y_B in _outputs(gradients):
        slope_of_block, curvature = _sizes(gradients.objective, output_BK, y_B)
        slope = max(slope, slope_of_block)
        if curvature > _ROUNDING * slope:
            return
    if slope == 0:
        return
    for output_BK, y_B in _outputs(gradients):  # an objective may have a root of its own
        for part in torch.arange(len(y_B)).split(max(1, _NUMBERS // output_BK.shape[1] ** 2)):
            root_bKK = gradients.objective.hessian_root(output_BK[part], y_B[part])
            if float(root_bKK.abs().max()) ** 2 > _ROUNDING * slope:
                return
    raise UserError(
        "the loss is linear in the network's output for all training examples, so that "
        "Gauss-Newton curvature is zero and influence would be Grad-Dot times a number: let the "
        "network give what the loss curves in, such as logits in place of a loss or of "
        "log-probabilities (tda.Classification takes these, too), or use influence_hessian or "
        "grad_dot"
    )


def _outputs(gradients: SampleGradients) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield outputs [B K], in float64, and targets of blocks of the training examples."""
    for batch in blocks(gradients.train_data, EVALUATION_BATCH[gradients.theta_P.is_cuda]):
        with torch.no_grad():
            output_BK = outputs(gradients.network, gradients.objective, batch.x)
        yield output_BK.double(), batch.y


def _sizes(objective: Objective, output_BK: Tensor, y_B: Tensor) -> tuple[float, float]:
    """Return the largest norms of the loss's gradient in the output, and of S v for a random v."""
    generator = torch.Generator().manual_seed(0)
    along_BK = torch.randn(output_BK.shape, generator=generator, dtype=torch.float64)
    leaf_BK = output_BK.detach().requires_grad_()
    with torch.enable_grad():
        loss = objective.loss(leaf_BK, y_B).sum()
        slope_BK = _derivative(loss, leaf_BK, create_graph=True)
        turned_BK = _derivative((slope_BK * along_BK.to(slope_BK)).sum(), leaf_BK)
    return float(slope_BK.detach().norm(dim=1).max()), float(turned_BK.norm(dim=1).max())


def _derivative(value: Tensor, leaf_BK: Tensor, *, create_graph: bool = False) -> Tensor:
    """Return a derivative; 0 where there is none, which a look at roots then explains."""
    if not value.requires_grad:
        return torch.zeros_like(leaf_BK)
    try:
        (slope_BK,) = torch.autograd.grad(
            value, leaf_BK, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
    except RuntimeError as error:
        if create_graph or out_of_memory(error):
            raise
        return torch.zeros_like(leaf_BK)
    return slope_BK
