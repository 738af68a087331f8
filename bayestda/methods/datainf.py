"""DataInf: influence with the inverse of the mean replaced by the mean of the inverses."""

from collections.abc import Iterable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from bayestda.errors import UserError
from bayestda.gradients.blocks import Blocks, by_blocks, chunks, partners, parts
from bayestda.gradients.factored import Rows
from bayestda.gradients.sample import SampleGradients


@by_blocks
def datainf(gradients: SampleGradients, damping: float | None = None) -> Blocks:
    r"""Scores [N M]: :math:`\sum_l \frac1N \sum_j t^\top (\lambda_l + g_j g_j^\top)^{-1} g_i`.

    Positive = helpful. :math:`t = \nabla_l g(z)` and :math:`g_j = \nabla_l L(z_j)` of layer l. By
    Sherman and Morrison, with G the layer's inner products, its part is
    :math:`\frac{1}{\lambda_l}\left[G_{ti} - \frac1N \sum_j \frac{G_{tj} G_{ji}}{\lambda_l +
    G_{jj}}\right]` (Kwon et al. 2024, equation 5; Wei et al. 2025, equation 18). N + M gradients;
    by inner products, N (N + M) of each layer, or, where that is less, with
    :math:`t - \frac1N \sum_j g_j \frac{g_j^\top t}{\lambda_l + \|g_j\|^2}` formed, 2 N M P
    multiplications. Nothing of size N².

    Args:
        gradients: Gradients of one sample of θ. A layer is a module with its bias. Of modules
            without hooks (see :mod:`bayestda.gradients.hooks`) each parameter is a layer.
        damping: Ridge λ of all layers. None: :math:`\lambda_l = \frac{0.1}{N d_l} \sum_j \|g_j\|^2`
            with d_l the layer's number of parameters, as published.

    Raises:
        UserError: λ is not positive.
    """
    if damping is not None and damping <= 0:
        raise UserError(f"damping={damping}: DataInf divides by it, so it must be positive")
    dampings = _dampings(gradients, damping)
    num_train, num_test = len(gradients.train_data), len(gradients.test_data)
    numbers = gradients.train.bytes_each // gradients.theta_P.element_size()
    of_dual = num_train * (numbers + num_test * len(dampings))
    if gradients.own or of_dual < 2 * num_test * gradients.layout.count:
        return _by_inner_products(gradients, dampings)
    return _by_vectors(gradients, dampings)


def _by_inner_products(gradients: SampleGradients, dampings: dict[str, float]) -> Blocks:
    count, double = len(gradients.train_data), 8
    for columns, test in chunks(
        gradients, gradients.test, 2 * gradients.test.bytes_each + 2 * double * count
    ):
        own = list(gradients.train.spans(columns)) if gradients.own else [slice(0, count)]
        rows = slice(own[0].start, own[-1].stop)
        scores_nm = gradients.theta_P.new_zeros(
            rows.stop - rows.start, columns.stop - columns.start, dtype=torch.float64
        )
        for at, right in gradients.train:
            with_test = _with_test(right, test, dampings)
            if rows.start <= at.start < rows.stop:
                scores_nm[_moved(at, rows)] += reduce(
                    torch.add, (with_test[name] / value for name, value in dampings.items())
                )
            for name, value in dampings.items():
                norms_B1 = right[name].squared_norms().double()
                with_test[name] /= count * value * (value + norms_B1)
            for where, left in partners(gradients, gradients.train, columns):
                for name in dampings:
                    between_AB = left[name].inner(right[name])[:, 0, :, 0].double()
                    scores_nm[_moved(where, rows)] -= between_AB @ with_test[name]
        yield rows, columns, scores_nm


def _by_vectors(gradients: SampleGradients, dampings: dict[str, float]) -> Blocks:
    count = len(gradients.train_data)
    for columns, test in chunks(gradients, gradients.test, 4 * 8 * gradients.layout.count):
        test_mp = {name: test[name].formed()[:, 0].double() for name in dampings}
        solved_mp = {name: test_mp[name] / value for name, value in dampings.items()}
        for _, rows in gradients.train:
            for part in parts(gradients, rows):
                for name, value in dampings.items():
                    train_bp = part[name].formed()[:, 0].double()
                    scale_b = count * value * (value + train_bp.square().sum(1))
                    solved_mp[name].addmm_(test_mp[name] @ train_bp.T / scale_b, train_bp, alpha=-1)
        del test_mp
        for at, rows in gradients.train:
            scores = [
                reduce(
                    torch.add,
                    (part[name].formed()[:, 0].double() @ solved_mp[name].T for name in dampings),
                )
                for part in parts(gradients, rows)
            ]
            yield at, columns, torch.cat(scores)


def _moved(at: slice, within: slice) -> slice:
    """Return a slice counted from the start of another."""
    return slice(at.start - within.start, at.stop - within.start)


def _dampings(gradients: SampleGradients, damping: float | None) -> dict[str, float]:
    """Return λ of each layer that has a gradient at all."""
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


def _with_test(right: Rows, test: Rows, names: Iterable[str]) -> dict[str, Tensor]:
    """Return inner products [B m] of a block with test gradients, by layer."""
    return {name: right[name].inner(test[name])[:, 0, :, 0].double() for name in names}
