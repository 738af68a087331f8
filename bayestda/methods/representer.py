"""Representer points: a prediction as a sum over training examples of the last layer's features."""

from torch import nn

from bayestda.errors import UserError
from bayestda.gradients.blocks import Blocks, by_blocks, chunks, partners
from bayestda.gradients.factored import Factored, Rows
from bayestda.gradients.sample import SampleGradients


@by_blocks
def representer_points(gradients: SampleGradients, weight_decay: float) -> Blocks:
    r"""Scores [N M]: :math:`\frac{1}{\lambda} \nabla_W g(z)^\top \nabla_W L(z_j)`; + = helpful.

    W is the last linear layer's weight (bias included, where there is one), λ the L2 coefficient
    in :math:`\frac1N \sum_j L_j + \frac{\lambda}{2} \|W\|^2`. Where W is stationary,
    :math:`W = -\frac{1}{\lambda N} \sum_j \delta_j a_j^\top`, so that with the measurement
    g = −f_k the scores divided by N sum to the logit f_k: the representer theorem (Yeh et al.
    2018, theorem 3.1, where λ is half of this one). N + M forward and backward passes of the head.

    Args:
        gradients: Gradients of one sample of θ, whose last linear layer is trained.
        weight_decay: The L2 coefficient λ.

    Raises:
        UserError: λ is not positive, or the last layer is not linear with one input per example.
    """
    if weight_decay <= 0:
        raise UserError("representer points need the positive L2 coefficient that W was trained by")
    name = _last_linear(gradients.network)
    each = 2 * gradients.test.bytes_each + 4 * gradients.train.block * 8
    for columns, test in chunks(gradients, gradients.test, each):
        for rows, train in partners(gradients, gradients.train, columns):
            products = _block(train, name).inner(_block(test, name))[:, 0, :, 0]
            yield rows, columns, products / weight_decay


def _last_linear(network: nn.Module) -> str:
    names = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and module.weight.requires_grad
    ]
    if not names:
        raise UserError("representer points need a trained nn.Linear as the network's last layer")
    return names[-1]


def _block(rows: Rows, name: str) -> Factored:
    """Return inputs and cotangents of a layer."""
    found = rows.get(name)
    if not isinstance(found, Factored):
        raise UserError(
            f"{name!r} has several inputs per example, or its weight is used elsewhere as well: it "
            "is no last layer"
        )
    return found
