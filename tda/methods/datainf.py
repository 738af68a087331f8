"""DataInf: influence with the inverse of the mean replaced by the mean of the inverses."""

from typing import Any

import torch
from torch import Tensor

from tda.errors import UserError
from tda.gradients import SampleGradients
from tda.rows import Rows


def datainf(gradients: SampleGradients, damping: float | None = None) -> Tensor:
    r"""Scores [N M]: :math:`\sum_l \frac1N \sum_j t^\top (\lambda_l + g_j g_j^\top)^{-1} g_i`.

    Positive = helpful. :math:`t = \nabla_l g(z)` and :math:`g_j = \nabla_l L(z_j)` of layer l. By
    Sherman and Morrison, with G the layer's inner products, its part is
    :math:`\frac{1}{\lambda_l}\left[G_{ti} - \frac1N \sum_j \frac{G_{tj} G_{ji}}{\lambda_l +
    G_{jj}}\right]` (Kwon et al. 2024, equation 5; Wei et al. 2025, equation 18). N + M gradients,
    N (N + M) inner products of each layer and nothing of size N².

    Args:
        gradients: of one sample of θ. A layer is a module with its bias; of modules without
            hooks (see :mod:`tda.gradients`) each parameter is a layer.
        damping: λ of all layers; None: :math:`\lambda_l = \frac{0.1}{N d_l} \sum_j \|g_j\|^2`
            with d_l the layer's number of parameters, as published.

    Raises:
        UserError: λ is not positive.
    """
    if damping is not None and damping <= 0:
        raise UserError(f"damping={damping}: DataInf divides by it, so it must be positive")
    dampings = _dampings(gradients, damping)
    size = (len(gradients.train_data), len(gradients.test_data))
    scores_NM = torch.zeros(size, dtype=torch.float64, device=gradients.theta_P.device)
    for at, right in gradients.train:
        test = _with_test(gradients, right)
        for name, value in dampings.items():
            scores_NM[at] += test[name] / value
            norms_B1 = right[name].squared_norms().double()
            test[name] /= size[0] * value * (value + norms_B1)
        for where, left in gradients.train:
            for name in dampings:
                between_AB = left[name].inner(right[name])[:, 0, :, 0].double()
                scores_NM[where] -= between_AB @ test[name]
    return scores_NM


def _dampings(gradients: SampleGradients, damping: float | None) -> dict[str, float]:
    """λ of each layer that has a gradient at all."""
    total: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    for _, rows in gradients.train:
        for name, block in rows.items():
            total[name] = total.get(name, 0) + block.squared_norms().double().sum()
            sizes[name] = block.size
    mean = {name: float(value) / len(gradients.train_data) for name, value in total.items()}
    return {
        name: 0.1 * square / sizes[name] if damping is None else damping
        for name, square in mean.items()
        if square > 0
    }


def _with_test(gradients: SampleGradients, right: Rows) -> dict[str, Tensor]:
    """Inner products [B M] of a block's gradients with all test gradients, by layer."""
    found: dict[str, list[Tensor]] = {name: [] for name in right}
    for _, rows in gradients.test:
        for name, block in rows.items():
            found[name].append(right[name].inner(block)[:, 0, :, 0].double())
    return {name: torch.cat(parts, dim=1) for name, parts in found.items()}
