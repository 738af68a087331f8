"""Representer points: a prediction as a sum over training examples of the last layer's features."""

import torch
from torch import Tensor, nn

from tda.errors import UserError
from tda.gradients import SampleGradients
from tda.rows import Factored, Rows


def representer_points(gradients: SampleGradients, weight_decay: float) -> Tensor:
    r"""Scores [N M]: :math:`\frac{1}{\lambda} \nabla_W g(z)^\top \nabla_W L(z_j)`; + = helpful.

    W is the last linear layer's weight (bias included, where there is one), λ the L2 coefficient
    in :math:`\frac1N \sum_j L_j + \frac{\lambda}{2} \|W\|^2`. Where W is stationary,
    :math:`W = -\frac{1}{\lambda N} \sum_j \delta_j a_j^\top`, so that with the measurement
    g = −f_k the scores divided by N sum to the logit f_k: the representer theorem (Yeh et al.
    2018, theorem 3.1, where λ is half of this one). N + M forward and backward passes of the head.

    Args:
        gradients: of one sample of θ, whose last linear layer is trained.
        weight_decay: λ.

    Raises:
        UserError: λ is not positive, or the last layer is not linear with one input per example.
    """
    if weight_decay <= 0:
        raise UserError("representer points need the positive L2 coefficient that W was trained by")
    name = _last_linear(gradients.network)
    train, test = (_factors(rows, name) for rows in (gradients.train, gradients.test))
    features_NM = train[0] @ test[0].T
    return features_NM * (train[1] @ test[1].T) / weight_decay


def _last_linear(network: nn.Module) -> str:
    names = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and module.weight.requires_grad
    ]
    if not names:
        raise UserError("representer points need a trained nn.Linear as the network's last layer")
    return names[-1]


def _factors(blocks, name: str) -> tuple[Tensor, Tensor]:
    """Inputs [B I] and cotangents [B O] of a layer."""

    def block(rows: Rows) -> Factored:
        found = rows.get(name)
        if not isinstance(found, Factored):
            raise UserError(f"{name!r} has several inputs per example: it is no last layer")
        return found

    parts = [block(rows) for _, rows in blocks]
    return (
        torch.cat([part.activation for part in parts]),
        torch.cat([part.delta[:, 0] for part in parts]),
    )
