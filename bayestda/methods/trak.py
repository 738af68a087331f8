"""TRAK: influence of a linear model on randomly projected gradients of the model's output."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bayestda.errors import UserError
from bayestda.gradients.blocks import Blocks, collected, formed, require
from bayestda.gradients.factored import RowBlocks, Rows
from bayestda.gradients.sample import SampleGradients, value_cotangents
from bayestda.methods.output_functions import output_function as function_of
from bayestda.model.examples import Examples
from bayestda.model.objective import Measurement

TILE = 512  # examples of both sides whose scores are made at a time
CHUNK = 4096  # parameters whose projection is in memory at a time
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # SplitMix64's step, as int64


class Parts(NamedTuple):
    """Factors of one model's scores; an ensemble averages each of them.

    Attributes:
        train_Nk: :math:`\\phi(z_j)`, projected.
        solved_kM: :math:`(\\Phi^\\top \\Phi + \\lambda I)^{-1} \\phi(z)`.
        weight_N: Q, how far each training example is from being fitted.
        own: Whether only an example's score for itself is wanted.
    """

    train_Nk: Tensor
    solved_kM: Tensor
    weight_N: Tensor
    own: bool = False


def trak(
    gradients: SampleGradients, projection: int = 512, damping: float = 0.0, **settings: Any
) -> Tensor:
    r"""Scores [N M]: :math:`\phi(z)^\top (\Phi^\top \Phi + \lambda I)^{-1} \phi(z_j)\, Q_j`.

    Positive = helpful. Φ are gradients of the model output function, projected at random to k
    numbers (Park et al. 2023, equation 13 with one model). In classification φ is of the margin
    log p/(1 − p) of the right class on both sides, whatever the objective measures, and
    :math:`Q_j = 1 - p_j`: by how much z_j raises the margin. In regression with one output, φ is of
    the output and :math:`Q_j = f_j - y_j`; the test side is ∇g, so that with the loss as g the test
    residual enters with its sign: by how much z_j lowers the loss. The kernel is that of the *sum*
    over examples, as published: scores are not to be divided by N. The published soft threshold
    is left out. N + M gradients, (N + M) k numbers; the projection [P k] is drawn in chunks.

    For a loss of your own say what φ is the gradient of: ``output_function``, a function h from
    outputs [B K] and targets to [B], or a name such as ``"margin"``. It serves both sides, with
    :math:`Q_j = -\partial L_j/\partial h`: by how much z_j raises h, so let h be high where an
    example is fitted. Where the loss is a function of h alone, Q follows from it; else give
    ``loss_slope``, a function from outputs and targets to :math:`\partial L/\partial h` [B].

    Args:
        gradients: Gradients of one sample of θ.
        projection: Number k that gradients are projected to.
        damping: The ridge λ, in units of N times a squared gradient norm.
        settings: ``seed`` of the projection, which changes the answer; ``output_function`` and
            ``loss_slope``.

    Raises:
        UserError: k exceeds N or P and λ is 0; no output function is known for the objective.
    """
    return mean_product([trak_parts(gradients, projection, damping, **settings)])


def trak_parts(
    gradients: SampleGradients,
    projection: int = 512,
    damping: float = 0.0,
    *,
    seed: int = 0,
    output_function: str | Measurement | None = None,
    loss_slope: Measurement | None = None,
    place: int = 0,
) -> Parts:
    """Return both factors of :func:`trak`; each place of an ensemble has its own projection."""
    train_value, test_value, weight_N = function_of(gradients, output_function, loss_slope)
    _check_size(gradients, projection, damping)
    count = len(gradients.train_data) + len(gradients.test_data)
    require(
        gradients, 8 * projection * (2 * count * (place + 1) + 3 * projection),
        f"{count:,} projected gradients of {place + 1} checkpoints",
        "raise it, lower the projection, or use influence_projected or grad_dot",
    )  # fmt: skip
    key = f"trak {projection} {seed} {place} {id(output_function)}"
    if key not in gradients.kept:
        project = Projection(gradients, projection, seed * 1_000_003 + place)
        train_Nk = _features(gradients, gradients.train_data, train_value, project)
        same = gradients.own and test_value is train_value
        gradients.kept[key] = (
            train_Nk,
            train_Nk if same else _features(gradients, gradients.test_data, test_value, project),
        )
    train_Nk, test_Mk = gradients.kept[key]
    gram_kk = train_Nk.T @ train_Nk
    gram_kk.diagonal().add_(damping)
    _check_regular(gram_kk, len(train_Nk) * torch.finfo(gradients.theta_P.dtype).eps)
    factor_kk = torch.linalg.cholesky(gram_kk)
    solved_kM = torch.cholesky_solve(test_Mk.T, factor_kk)
    return Parts(train_Nk, solved_kM, weight_N, gradients.own)


def mean_product(parts: list[Parts]) -> Tensor:
    """Return scores [N M] of an ensemble: the mean kernel times the mean Q.

    Park et al. 2023, equation 17.
    """
    size = (len(parts[0].train_Nk), parts[0].solved_kM.shape[1])
    return collected(mean_products(parts), size)


def mean_products(parts: Iterable[Parts]) -> Blocks:
    """Yield the scores of :func:`mean_product` block by block."""
    parts = list(parts)
    weight_N = torch.stack([part.weight_N for part in parts]).mean(0)
    train_Nk = torch.cat([part.train_Nk for part in parts], dim=1) / len(parts)
    solved_kM = torch.cat([part.solved_kM for part in parts])
    num_train, num_test = len(train_Nk), solved_kM.shape[1]
    for at in range(0, num_train, TILE):
        rows = slice(at, min(at + TILE, num_train))
        for start in [at] if parts[0].own else range(0, num_test, TILE):
            columns = slice(start, min(start + TILE, num_test))
            kernel_nm = train_Nk[rows] @ solved_kM[:, columns]
            yield rows, columns, kernel_nm * weight_N[rows, None]


class Projection:
    """Products [B k] of gradients [B P] with random signs over √k, [P k].

    Signs are a hash of seed, row and column: alike on every device and for every size of chunk.
    They are made again for each block of gradients, unless they are few.
    """

    def __init__(self, gradients: SampleGradients, size: int, seed: int):
        self.size, self.seed, self.theta_P = size, seed, gradients.theta_P
        whole = gradients.layout.count * size * self.theta_P.element_size()
        self._kept = list(self._chunks()) if whole <= gradients.memory_bytes / 8 else None

    def __call__(self, vectors_BP: Tensor) -> Tensor:
        """Projected vectors [B k], in float64."""
        total_Bk = vectors_BP.new_zeros(len(vectors_BP), self.size, dtype=torch.float64)
        chunks = vectors_BP.split(CHUNK, dim=1)
        for chunk_Bc, signs_ck in zip(chunks, self._kept or self._chunks(), strict=True):
            total_Bk += chunk_Bc @ signs_ck
        return total_Bk / self.size**0.5

    def _chunks(self) -> Iterator[Tensor]:
        words = -(-self.size // 32)  # of 32 signs
        start = _mixed(torch.tensor(self.seed % 2**63, device=self.theta_P.device))
        bits_32 = torch.arange(32, device=self.theta_P.device)
        places_P = torch.arange(len(self.theta_P), device=self.theta_P.device)
        for place_c in places_P.split(CHUNK):
            word_cw = place_c[:, None] * words + torch.arange(words, device=place_c.device)
            drawn_cw = _mixed(start + (word_cw + 1) * _GOLDEN)
            drawn_ck = (drawn_cw[..., None] >> bits_32 & 1).flatten(1)[:, : self.size]
            yield drawn_ck.to(self.theta_P.dtype).mul_(2).sub_(1)


def _mixed(z: Tensor) -> Tensor:
    """SplitMix64's output function (Steele, Lea and Flood 2014) of int64 that wrap around."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64)):
        z = (z ^ (z >> shift & 2 ** (64 - shift) - 1)) * factor
    return z ^ (z >> 31 & 2**33 - 1)


def _features(
    gradients: SampleGradients,
    data: Examples,
    value: Measurement,
    project: "Projection",
) -> Tensor:
    """Projected gradients [B k] of a function of the output, float64."""

    def rows(chosen: slice) -> Rows:
        batch = data.take(chosen)
        return gradients.captured(batch.x, value_cotangents(value, batch.y))

    blocks = RowBlocks(rows, len(data), gradients.memory_bytes / 3)
    features_Bk = gradients.theta_P.new_empty(len(data), project.size, dtype=torch.float64)
    start = 0
    for _, block in blocks:
        for part_bLP in formed(gradients, block):
            features_Bk[start : start + len(part_bLP)] = project(part_bLP[:, 0])
            start += len(part_bLP)
    return features_Bk


def _check_size(gradients: SampleGradients, projection: int, damping: float) -> None:
    most = min(len(gradients.train_data), gradients.layout.count)
    if projection < 1:
        raise UserError(f"projection={projection}: at least one dimension is needed")
    if projection > most and damping == 0:
        raise UserError(
            f"projection={projection} is more than the {len(gradients.train_data)} training "
            f"examples or the {gradients.layout.count} parameters, so that the kernel is singular: "
            f"lower the projection to {most} at most, or give damping"
        )


def _check_regular(gram_kk: Tensor, relative: float) -> None:
    """Rounding must not decide: singular values of Φ are above its relative error."""
    eigenvalues_k = torch.linalg.eigvalsh(gram_kk)
    rounding = max(relative**2, len(gram_kk) * torch.finfo(gram_kk.dtype).eps)
    if eigenvalues_k[0] <= rounding * eigenvalues_k[-1]:
        raise UserError(
            f"the kernel of {len(gram_kk)} projected gradients is singular: lower the projection, "
            "give damping, or another seed"
        )
