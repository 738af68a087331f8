"""Copies of a perceptron side by side: a few batched matrix products a layer, without ``vmap``.

A step of a small network is mostly overhead, and one of many stacked networks mostly memory
traffic. Here a layer is one batched product forward and two backward, and weights and gradients lie
in memory with their longer side last, where such products are up to ten times faster on a CPU.

Letters: I inputs of a layer, O its outputs.
"""

from typing import Any

import torch
from torch import Tensor, nn

from tda.objective import Objective, calls_plainly
from tda.parameters import Parameters, private_copy

ELEMENTWISE = (
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid,
    nn.Softplus, nn.Identity,
)  # fmt: skip


class Perceptrons:
    """R copies at once; inputs with a leading 1 are shared by all of them.

    The values of :class:`tda.copies.Stacked`, up to rounding. For networks of which :func:`fits`
    is true.
    """

    def __init__(self, network: nn.Module, objective: Objective):
        self.network, self.objective = private_copy(network), objective
        self.layout = Parameters(network)
        self.layers = list(_layers(self.network))

    def start(self, theta: Tensor, members: int = 1) -> None:
        """Take over θ [R P], or [1 P] for all members."""
        self.count = max(members, len(theta))
        named = self.layout.split(theta.expand(self.count, -1))
        self.named = {name: _laid_out(value).requires_grad_() for name, value in named.items()}

    def leaves(self) -> list[Tensor]:
        """What an optimiser steps: parameters with a leading dim R."""
        return list(self.named.values())

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs [R B K] of inputs with a leading R, or a 1 if all members share them."""
        output = self.objective.output(self._forward, x)  # type: ignore[arg-type]
        return output.unflatten(0, (self.count, -1))

    def vector(self) -> Tensor:
        """A copy of θ [R P]."""
        return self.layout.join({name: value.detach() for name, value in self.named.items()})

    def _forward(self, x: Tensor) -> Tensor:
        """Outputs of all members, one after the other, as if they were one batch."""
        h = x.expand(self.count, *x.shape[1:])
        for name, layer in self.layers:
            if isinstance(layer, nn.Linear):
                h = self._linear(name, layer, h)
            else:
                h = h.flatten(2) if isinstance(layer, nn.Flatten) else layer(h)
        return h.flatten(0, 1)

    def _linear(self, name: str, layer: nn.Linear, h: Tensor) -> Tensor:
        """A layer of all members, over the last dim."""
        weight_ROI = self._value(f"{name}.weight", layer.weight)
        bias = layer.bias
        bias_RO = None if bias is None else self._value(f"{name}.bias", bias)
        output = _Linear.apply(h.flatten(1, -2), weight_ROI, bias_RO)
        return output.unflatten(1, h.shape[1:-1])

    def _value(self, name: str, frozen: Tensor) -> Tensor:
        if name in self.named:
            return self.named[name]
        return frozen.expand(self.count, *frozen.shape)


class _Linear(torch.autograd.Function):
    """h Wᵀ + b of all members, whose gradients lie in memory as the weights do."""

    @staticmethod
    def forward(ctx: Any, h_RBI: Tensor, weight_ROI: Tensor, bias_RO: Tensor | None) -> Tensor:
        ctx.save_for_backward(h_RBI, weight_ROI)
        if bias_RO is None:
            return h_RBI.bmm(weight_ROI.mT)
        return torch.baddbmm(bias_RO[:, None], h_RBI, weight_ROI.mT)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        (slope_RBO,) = slopes
        h_RBI, weight_ROI = ctx.saved_tensors
        to_input, to_weight, to_bias = ctx.needs_input_grad
        return (
            slope_RBO.bmm(weight_ROI) if to_input else None,
            _outer(slope_RBO, h_RBI) if to_weight else None,
            slope_RBO.sum(1) if to_bias else None,
        )


def _outer(slope_RBO: Tensor, h_RBI: Tensor) -> Tensor:
    """Gradients of weights [R O I], with the longer side last in memory."""
    if slope_RBO.shape[2] > h_RBI.shape[2]:
        return h_RBI.mT.bmm(slope_RBO).mT
    return slope_RBO.mT.bmm(h_RBI)


def _laid_out(value: Tensor) -> Tensor:
    """A copy; of matrices [R O I] with the longer side last in memory."""
    turned = value.ndim == 3 and value.shape[1] > value.shape[2]
    copied = (value.mT if turned else value).clone(memory_format=torch.contiguous_format)
    return copied.mT if turned else copied


def fits(network: nn.Module, objective: Objective) -> bool:
    """Whether a network is a chain of linear and elementwise layers, called without ado.

    Subclasses, hooks and shared parameters may do something else: such networks do not fit.
    """
    if not calls_plainly(objective):
        return False
    every = [m for _, m in network.named_modules(remove_duplicate=False)]
    names = [
        name for name, p in network.named_parameters(remove_duplicate=False) if p.requires_grad
    ]
    return (
        all(_is_known(module) for module in every)
        and any(type(module) is nn.Linear for module in every)
        and names == list(Parameters(network).shapes)
    )


def _is_known(module: nn.Module) -> bool:
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
        return False
    if type(module) is nn.Flatten:
        return (module.start_dim, module.end_dim) == (1, -1)
    return type(module) in (nn.Sequential, nn.Linear, *ELEMENTWISE)


def _layers(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """What is applied, in order, with names."""
    named = network.named_modules(remove_duplicate=False)
    return [(name, module) for name, module in named if type(module) is not nn.Sequential]
