"""LoGra: influence between gradients whose Kronecker factors are projected, layer by layer.

A layer's gradient Σ_t δ_t a_tᵀ becomes Σ_t (Dᵀδ_t)(Eᵀa_t)ᵀ. That is the gradient of a bottleneck of
zeros, B, beside the layer: y = W a + D B Eᵀ a. So the projected gradients are the gradients of a
network with such bottlenecks, and nothing of the layer's own size is ever formed for an example.
"""

from functools import reduce
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayestda.curvature.gauss_newton import damped_factor
from bayestda.curvature.kronecker import FactorBlocks
from bayestda.errors import UserError
from bayestda.gradients.blocks import Blocks, by_blocks, chunks, partners, require
from bayestda.gradients.hooks import factors, plain_layers
from bayestda.gradients.layers import trained
from bayestda.gradients.sample import SampleGradients, loss_cotangents
from bayestda.methods.influence import influence
from bayestda.model.calls import outputs
from bayestda.model.parameters import Parameters, private_copy

LOOKED_AT = 8  # examples whose gradients show whether a layer alone uses its weight
Bases = dict[str, tuple[Tensor, Tensor]]  # by layer: E [I k], D [O k]


@by_blocks
def projected_influence(
    gradients: SampleGradients,
    damping: float,
    *,
    rank: int = 64,
    init: str = "random",
    curvature: str = "empirical_fisher",
    seed: int = 0,
) -> Blocks:
    r"""Return scores [N M]: :math:`(P \nabla g)^\top (\hat C + \lambda I)^{-1} P \nabla L(z_j)`.

    Positive = helpful (Choe et al. 2024, LoGra). P projects each linear and convolutional layer's
    gradient from both sides (see above), a bias being the weight of a constant input 1; parameters
    of other layers stay as they are. Ĉ is the curvature of the projected gradients. With k at
    least I + 1 and O, P is a rotation and the scores are those without projection. N + M
    gradients (N·K more for Gauss-Newton) of 2 k numbers a layer and position; k⁴ numbers a layer
    for Ĉ.

    Args:
        gradients: The gradients of one sample of θ.
        damping: The ridge λ, in units of curvature eigenvalues.
        rank: The rank k of both sides of every layer, or the side's own size where that is less.
        init: ``random``: orthonormal columns, scaled so that inner products keep their mean;
            ``pca``: leading eigenvectors of the covariances of inputs and output gradients.
        curvature: ``empirical_fisher``: (1/N) Σ ∇L ∇Lᵀ of each layer apart, as published;
            ``gauss_newton``: exact, over all layers together.
        seed: The seed of ``random``.

    Raises:
        UserError: Unknown ``init`` or ``curvature``; a rank below 1.
    """
    solvers = {"empirical_fisher": fisher_influence, "gauss_newton": influence}
    if curvature not in solvers or init not in ("random", "pca") or rank < 1:
        raise UserError(
            f"rank={rank}, init={init!r}, curvature={curvature!r}: the rank must be at least 1, "
            f"init one of random, pca, and curvature one of {', '.join(solvers)}"
        )
    key = f"logra {rank} {init} {seed}"
    if key not in gradients.kept:
        bases = _principal(gradients, rank) if init == "pca" else _random(gradients, rank, seed)
        gradients.kept[key] = with_bottlenecks(gradients, bases)
    return solvers[curvature].blocks(gradients.kept[key], damping)


@by_blocks
def fisher_influence(gradients: SampleGradients, damping: float) -> Blocks:
    r"""Return scores [N M]: :math:`\sum_l \nabla_l g^\top (F_l + \lambda I)^{-1} \nabla_l L(z_j)`.

    Positive = helpful. :math:`F_l = \frac1N \sum_j \nabla_l L(z_j) \nabla_l L(z_j)^\top` is the
    empirical Fisher of a layer, formed: for layers of few parameters. Twice N + M
    gradients, Σ_l p_l² numbers.

    Raises:
        UserError: The matrices do not fit into memory.
    """
    factors = _fisher_factors(gradients, damping)
    each = 3 * 8 * gradients.layout.count
    for columns, test in chunks(gradients, gradients.test, each):
        solved = {
            name: torch.cholesky_solve(block.formed()[:, 0].double().T, factors[name])
            for name, block in test.items()
        }
        for rows, train in partners(gradients, gradients.train, columns):
            parts = [block.formed()[:, 0].double() @ solved[name] for name, block in train.items()]
            yield rows, columns, reduce(torch.add, parts)


def _fisher_factors(gradients: SampleGradients, damping: float) -> dict[str, Tensor]:
    """Return Cholesky factors [p p] of F + λ by layer, float64."""
    first = next(iter(gradients.train))[1]
    sizes = {name: block.size for name, block in first.items()}
    require(
        gradients, sum(2 * 8 * size**2 for size in sizes.values()),
        f"the curvature of projected gradients ({max(sizes.values()):,} numbers in a layer)",
        f"raise it, lower the rank, leave {_largest(sizes)} out by parameters=, or use "
        "influence_cg",
    )  # fmt: skip
    like = gradients.theta_P.new_empty(0, dtype=torch.float64)
    fisher = {name: like.new_zeros(size, size) for name, size in sizes.items()}
    for _, rows in chunks(gradients, gradients.train, 2 * 8 * sum(sizes.values())):
        for name, block in rows.items():
            values_Bp = block.formed()[:, 0].double()
            fisher[name].addmm_(values_Bp.T, values_Bp, alpha=1 / len(gradients.train_data))
    return {name: damped_factor(matrix_pp, damping) for name, matrix_pp in fisher.items()}


def _largest(sizes: dict[str, int]) -> str:
    """Return the name of the layer with the most numbers, as the user knows it."""
    return max(sizes, key=sizes.__getitem__).removesuffix(".bottleneck.core")


def with_bottlenecks(gradients: SampleGradients, bases: Bases) -> SampleGradients:
    """Return gradients of a network of frozen layers, each with a bottleneck of zeros beside it."""
    network = private_copy(gradients.network)
    for name, (encode_Ik, decode_Ok) in bases.items():
        layer = network.get_submodule(name).requires_grad_(False)
        layer.bottleneck = _Bottleneck(layer, encode_Ik, decode_Ok)
        layer.register_forward_hook(
            lambda layer, inputs, named, output: (
                output + layer.bottleneck(next(iter((*inputs, *named.values()))))
            ),
            with_kwargs=True,
        )
    return SampleGradients(
        network, gradients.objective, Parameters(network).read(network),
        train=gradients.train_data, test=gradients.test_data, memory_bytes=gradients.memory_bytes,
        scratch=gradients.scratch, own=gradients.own,
    )  # fmt: skip


class _Bottleneck(nn.Module):
    """D B Eᵀ a beside a layer, with B = 0; Eᵀ a is a layer of the same kind with k outputs."""

    weight: Tensor
    bias_k: Tensor
    decode_Ok: Tensor

    def __init__(self, layer: Any, encode_Ik: Tensor, decode_Ok: Tensor):
        super().__init__()
        convolved = isinstance(layer, nn.Conv2d)
        self.settings = (layer.stride, layer.padding, layer.dilation) if convolved else None
        self.core = nn.Linear(encode_Ik.shape[1], decode_Ok.shape[1], bias=False).to(layer.weight)
        nn.init.zeros_(self.core.weight)
        shape = layer.weight.shape[1:]
        weight_kI, constant_1k = encode_Ik[: shape.numel()].T, encode_Ik[shape.numel() :]
        self.register_buffer("weight", weight_kI.unflatten(1, shape).to(layer.weight))
        self.register_buffer("bias_k", constant_1k.sum(0).to(layer.weight))  # 0 if none is trained
        self.register_buffer("decode_Ok", decode_Ok.to(layer.weight))

    def forward(self, x: Tensor) -> Tensor:
        """Return what is added to the layer's output."""
        if self.settings is None:
            return self.core(F.linear(x, self.weight, self.bias_k)) @ self.decode_Ok.T
        encoded = F.conv2d(x, self.weight, self.bias_k, *self.settings).movedim(1, -1)
        return (self.core(encoded) @ self.decode_Ok.T).movedim(-1, 1)


def _layers(gradients: SampleGradients) -> dict[str, nn.Module]:
    """Layers to project: their weight is trained, and used in their own calls alone.

    Others stay as they are. A weight that a function uses, too, has gradients that no bottleneck
    beside the layer sees.
    """
    # Some uses show for some examples only, as behind a gate.
    network, x_N = gradients.network, gradients.train_data.take(slice(LOOKED_AT)).x
    layers = plain_layers(network)
    layers = {name: layer for name, layer in layers.items() if "weight" in trained(layer)}
    if not layers:
        return {}
    seen: dict[str, Tensor] = {}
    pulled = factors(network, gradients.objective, x_N, lambda f: torch.ones_like(f)[None], layers)
    for name, a_BTI, delta_BLTO in pulled:
        new_OI = torch.einsum("bto,bti->oi", delta_BLTO[:, 0], a_BTI)
        seen[name] = seen[name] + new_OI if name in seen else new_OI
    wanted = _summed_gradients(gradients, layers, x_N)
    return {name: own for name, own in layers.items() if _is_all(seen.get(name), wanted[name])}


def _summed_gradients(
    gradients: SampleGradients, layers: dict[str, nn.Module], x_N: Any
) -> dict[str, Tensor]:
    """Gradients of the sum of some examples' outputs in layers' weights, by autograd."""
    weights = [cast(Tensor, layer.weight) for layer in layers.values()]
    with torch.enable_grad():
        total = outputs(gradients.network, gradients.objective, x_N).sum()
    found = torch.autograd.grad(total, weights, allow_unused=True, materialize_grads=True)
    return dict(zip(layers, found, strict=True))


def _is_all(seen: Tensor | None, wanted: Tensor) -> bool:
    """Whether a gradient [O I] that a layer's calls give is all of its weight's."""
    if seen is None:  # it is never called
        return not wanted.any()
    inputs = wanted[0].numel()
    weight_OI = wanted.movedim(1, -1).reshape(len(wanted), -1)  # a patch is [height width channel]
    gap, epsilon = seen[:, :inputs] - weight_OI, torch.finfo(torch.float32).eps
    return bool(gap.norm() <= 3 * epsilon**0.5 * weight_OI.norm() + epsilon)


def _random(gradients: SampleGradients, rank: int, seed: int) -> Bases:
    generator = torch.Generator().manual_seed(seed)

    def basis(size: int) -> Tensor:
        columns = min(rank, size)
        normal = torch.randn(size, columns, generator=generator, dtype=torch.float64)
        return torch.linalg.qr(normal).Q * (size / columns) ** 0.5

    bases = {}
    for name, layer in _layers(gradients).items():
        weight = cast(Tensor, layer.weight)
        bases[name] = basis(weight[0].numel() + ("bias" in trained(layer))), basis(len(weight))
    return bases


def _principal(gradients: SampleGradients, rank: int) -> Bases:
    """Leading eigenvectors of each layer's covariances over the training examples."""
    layers = _layers(gradients)
    covariances = FactorBlocks(gradients, layers, loss_cotangents).covariances()
    return {
        name: (_weight_order(layers[name], _leading(inputs_II, rank)), _leading(outputs_OO, rank))
        for name, (inputs_II, outputs_OO) in covariances.items()
    }


def _leading(covariance: Tensor, rank: int) -> Tensor:
    return torch.linalg.eigh(covariance).eigenvectors[:, -rank:]


def _weight_order(layer: nn.Module, basis_Ik: Tensor) -> Tensor:
    """Bring inputs from a patch's order [height, width, channel] into that of the weight."""
    if not isinstance(layer, nn.Conv2d):
        return basis_Ik
    channels, height, width = layer.weight.shape[1:]
    size = channels * height * width
    patch = basis_Ik[:size].unflatten(0, (height, width, channels)).movedim(2, 0)
    return torch.cat([patch.flatten(0, 2), basis_Ik[size:]])
