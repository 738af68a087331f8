"""Per-example gradients of the loss, and Jacobians of the output, by hooks or by ``vmap``.

Hooks see the input a of each linear or convolutional layer and the cotangent δ of its output; one
backward pass per cotangent then serves all examples of a batch, and weight gradients are formed
only where that is cheaper (see :mod:`tda.rows`). Parameters of other modules, and of layers that
are called more than once, go through ``vmap``.
"""

from collections.abc import Callable
from functools import cached_property
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from tda.data import Data
from tda.objective import Objective
from tda.parameters import Parameters, channels_last_copy
from tda.rows import Factored, Formed, RowBlocks, Rows

Cotangents = Callable[[Tensor], Tensor]  # output [B K] -> cotangents [L B K]


class SampleGradients:
    """Gradients of one sample of θ on training and test examples, each computed once.

    Args:
        network: the architecture; it is copied.
        objective: gives the loss.
        theta_P: the sample.
        train, test: examples [N ...] and [M ...].
        memory_bytes: what gradients may take; more examples are captured again when needed.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        theta_P: Tensor,
        *,
        train: Data,
        test: Data,
        memory_bytes: float,
    ):
        self.network = channels_last_copy(network).eval()
        self.objective, self.train_data, self.test_data = objective, train, test
        self.theta_P, self._memory_bytes = theta_P, memory_bytes
        Parameters(network).write(self.network, theta_P)

    @cached_property
    def train(self) -> RowBlocks:
        """∇L(z_j) of the training examples, L = 1."""
        return self._loss_rows(self.train_data)

    @cached_property
    def test(self) -> RowBlocks:
        """∇L(z) of the test examples, L = 1."""
        return self._loss_rows(self.test_data)

    @cached_property
    def jacobian(self) -> RowBlocks:
        """∇f_k(x_j) of the training examples, L = K."""
        x = self.train_data.x
        return self._blocks(x, lambda chosen: capture(self.network, x[chosen], output_cotangents))

    @cached_property
    def products_NM(self) -> Tensor:
        """∇L(z_j)ᵀ∇L(z) [N M]."""
        return self.train.inner(self.test)[:, 0, :, 0]

    def _loss_rows(self, data: Data) -> RowBlocks:
        def rows(chosen: slice) -> Rows:
            cotangents = loss_cotangents(self.objective, data.y[chosen])
            return capture(self.network, data.x[chosen], cotangents)

        return self._blocks(data.x, rows)

    def _blocks(self, x: Tensor, rows: Callable[[slice], Rows]) -> RowBlocks:
        return RowBlocks(rows, len(x), self._memory_bytes / 3)  # train, test, jacobian


def loss_cotangents(objective: Objective, y_B: Tensor) -> Cotangents:
    """The loss's gradient in the output, so that rows are per-example loss gradients."""

    def cotangents(output_BK: Tensor) -> Tensor:
        # In float64: in float32, p − 1 of a confident prediction loses its digits.
        wide_BK = output_BK.detach().double().requires_grad_()
        (gradient_BK,) = torch.autograd.grad(objective.loss(wide_BK, y_B).sum(), wide_BK)
        return gradient_BK[None].to(output_BK.dtype)

    return cotangents


def output_cotangents(output_BK: Tensor) -> Tensor:
    """Unit vectors, so that rows are the Jacobian of the output."""
    eye_KK = torch.eye(output_BK.shape[1], dtype=output_BK.dtype, device=output_BK.device)
    return eye_KK[:, None].expand(-1, len(output_BK), -1)


def capture(network: nn.Module, x_B: Tensor, cotangents: Cotangents) -> Rows:
    """Per-example vector-Jacobian products of the network's output, by layer.

    Args:
        network: in evaluation mode, with its parameters in place.
        x_B: a batch of examples.
        cotangents: vectors [L B K] to pull back, given the output.

    Returns:
        For each layer L gradients of each of the B examples.
    """
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {}
    layers = {
        name: module
        for name, module in network.named_modules()
        if type(module) in _HOOKED and any(p.requires_grad for p in module.parameters())
    }
    hooks = [
        layer.register_forward_hook(
            lambda _, inputs, output, name=name: calls.setdefault(name, []).append(
                (inputs[0].detach(), output)
            )
        )
        for name, layer in layers.items()
    ]
    try:
        with torch.enable_grad():
            output_BK = network(x_B)
    finally:
        for hook in hooks:
            hook.remove()
    cotangents_LBK = cotangents(output_BK.detach())
    once = {name: found[0] for name, found in calls.items() if _is_simple(layers[name], found)}
    rows = _layer_rows(layers, once, output_BK, cotangents_LBK)
    rest = _parameters_outside(network, set(once))
    return rows | (_vmap_rows(network, rest, x_B, cotangents_LBK) if rest else {})


def _layer_rows(
    layers: dict[str, nn.Module],
    calls: dict[str, tuple[Tensor, Tensor]],
    output_BK: Tensor,
    cotangents_LBK: Tensor,
) -> Rows:
    if not calls:
        return {}
    outputs = [output for _, output in calls.values()]
    pulled = [
        torch.autograd.grad(output_BK, outputs, cotangent_BK, retain_graph=True)
        for cotangent_BK in cotangents_LBK
    ]
    deltas = [_stack(delta) for delta in zip(*pulled, strict=True)]
    return {
        name: _rows_of(layers[name], activation, delta)
        for (name, (activation, _)), delta in zip(calls.items(), deltas, strict=True)
    }


def _stack(deltas: tuple[Tensor, ...]) -> Tensor:
    """Cotangents [B L ...] of L passes; one alone is not copied."""
    return deltas[0][:, None] if len(deltas) == 1 else torch.stack(deltas, dim=1)


def _rows_of(layer: nn.Module, activation: Tensor, delta: Tensor) -> Factored | Formed:
    """Rows of a layer from its input and its output's cotangents [B L ...]."""
    if isinstance(layer, nn.Conv2d):
        activation = _patches(layer, activation)
        delta = delta.movedim(2, -1)
    # any dims between the first and the last are positions T
    activation_BTI = activation.reshape(len(activation), -1, activation.shape[-1])
    delta_BLTO = delta.reshape(*delta.shape[:2], -1, delta.shape[-1])
    if activation_BTI.shape[1] == 1:
        activation_BI, delta_BLO = activation_BTI[:, 0], delta_BLTO[:, :, 0]
        if layer.bias is not None:  # a bias is a weight on a constant 1
            activation_BI = F.pad(activation_BI, (0, 1), value=1.0)
        return Factored(activation_BI, delta_BLO)
    formed = [(delta_BLTO.mT @ activation_BTI[:, None]).flatten(2)]
    if layer.bias is not None:
        formed.append(delta_BLTO.sum(2))
    return Formed(torch.cat(formed, dim=-1))


def _patches(layer: nn.Conv2d, activation: Tensor) -> Tensor:
    """The inputs [B H W I] of each output position; fast, as channels-last rows stay together."""
    height, width = cast(tuple[int, int], layer.padding)  # no string: see _is_simple
    padded = F.pad(activation.movedim(1, -1), (0, 0, width, width, height, height))
    patches = padded.unfold(1, layer.kernel_size[0], layer.stride[0])
    patches = patches.unfold(2, layer.kernel_size[1], layer.stride[1])
    return patches.permute(0, 1, 2, 4, 5, 3).flatten(3)


def _is_simple(layer: nn.Module, calls: list[tuple[Tensor, Tensor]]) -> bool:
    """Whether the layer's rows follow from one input and one output."""
    trainable = {p.requires_grad for p in layer.parameters()}
    plain = not isinstance(layer, nn.Conv2d) or (
        layer.groups == 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )
    return len(calls) == 1 and trainable == {True} and plain


def _parameters_outside(network: nn.Module, covered: set[str]) -> dict[str, Tensor]:
    return {
        name: p.detach()
        for name, p in network.named_parameters()
        if p.requires_grad and name.rpartition(".")[0] not in covered
    }


def _vmap_rows(
    network: nn.Module, named: dict[str, Tensor], x_B: Tensor, cotangents_LBK: Tensor
) -> Rows:
    """Rows of any parameters: ``vmap`` over examples of vector-Jacobian products."""

    def one_example(x: Tensor, cotangents_LK: Tensor) -> dict[str, Tensor]:
        pull = vjp(lambda named: functional_call(network, named, (x[None],))[0], named)[1]
        return vmap(pull)(cotangents_LK)[0]

    gradients = vmap(one_example)(x_B, cotangents_LBK.transpose(0, 1))
    return {name: Formed(gradient.flatten(2)) for name, gradient in gradients.items()}


_HOOKED = (nn.Linear, nn.Conv2d)
