"""Train copies of a perceptron side by side, by batched matrix products instead of ``vmap``.

A step of a small network is mostly overhead, and one of many stacked networks mostly memory
traffic. Here a layer takes one batched product forward and two backward. Weights are stored with
their longer side last, because the products that give their gradients are then three to ten times
faster.

Letters: I inputs of a layer, O its outputs.
"""

from typing import Any

import torch
from torch import Tensor, nn

from bayestda.model.calls import outputs
from bayestda.model.measuring import calls_plainly
from bayestda.model.objective import Objective
from bayestda.model.parameters import Parameters, private_copy

ELEMENTWISE = (
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid,
    nn.Softplus, nn.Identity,
)  # fmt: skip


class Perceptrons:
    """Run R copies of a perceptron at once; inputs with a leading 1 are shared by all of them.

    Values are those of :class:`bayestda.training.stacking.Stacked`, up to rounding.

    Args:
        network: A network for which :func:`fits` is true; it is copied.
        objective: The objective that calls it.
    """

    def __init__(self, network: nn.Module, objective: Objective):
        self.network, self.objective = private_copy(network), objective
        self.layout = Parameters(network)
        self.layers = list(_layers(self.network))

    def start(self, theta: Tensor, members: int = 1) -> None:
        """Take over the parameters θ [R P], or [1 P] for all members."""
        self.count = max(members, len(theta))
        named = self.layout.split(theta.expand(self.count, -1))
        # Weights [R O I] with more outputs than inputs are stored transposed, as [R I O].
        self.turned = {name for name, value in named.items() if _is_tall(value)}
        self.named = {
            name: self._turn(name, value).clone(memory_format=torch.contiguous_format)
            for name, value in named.items()
        }
        for value in self.named.values():
            value.requires_grad_()

    def leaves(self) -> list[Tensor]:
        """Return the tensors that an optimiser steps: parameters [R ...], some transposed."""
        return list(self.named.values())

    def __call__(self, x: Tensor) -> Tensor:
        """Return outputs [R B K] for inputs with a leading R, or a 1 if all members share them."""
        # The objective sees one batch of R·B examples, as it would from a single network.
        output = outputs(self._forward, self.objective, x)  # type: ignore[arg-type]
        return output.unflatten(0, (self.count, -1))

    def vector(self) -> Tensor:
        """Return a copy of θ [R P]."""
        named = self.named.items()
        return self.layout.join({name: self._turn(name, value.detach()) for name, value in named})

    def _turn(self, name: str, value: Tensor) -> Tensor:
        return value.mT if name in self.turned else value

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
        """Apply a linear layer of all members to the last dim of h [R ... I]."""
        prefix = f"{name}." if name else ""  # a network may be a single layer
        weight, bias = self._value(f"{prefix}weight", layer.weight), layer.bias
        bias_RO = None if bias is None else self._value(f"{prefix}bias", bias)
        turned = f"{prefix}weight" in self.turned
        output = _Linear.apply(h.flatten(1, -2), weight, bias_RO, turned)
        return output.unflatten(1, h.shape[1:-1])

    def _value(self, name: str, frozen: Tensor) -> Tensor:
        if name in self.named:
            return self.named[name]
        return frozen.expand(self.count, *frozen.shape)


class _Linear(torch.autograd.Function):
    """Compute h Wᵀ + b for all members; weights stored as [R I O] get gradients of that form."""

    @staticmethod
    def forward(
        ctx: Any, h_RBI: Tensor, weight: Tensor, bias_RO: Tensor | None, turned: bool
    ) -> Tensor:
        ctx.save_for_backward(h_RBI, weight)
        ctx.turned = turned
        weight_RIO = weight if turned else weight.mT
        if bias_RO is None:
            return h_RBI.bmm(weight_RIO)
        return torch.baddbmm(bias_RO[:, None], h_RBI, weight_RIO)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        (slope_RBO,) = slopes
        h_RBI, weight = ctx.saved_tensors
        to_input, to_weight, to_bias, _ = ctx.needs_input_grad
        # Wᵀ has the gradient hᵀ s and W has sᵀ h: the order of factors gives the stored form.
        factors = (h_RBI, slope_RBO) if ctx.turned else (slope_RBO, h_RBI)
        return (
            slope_RBO.bmm(weight.mT if ctx.turned else weight) if to_input else None,
            factors[0].mT.bmm(factors[1]) if to_weight else None,
            slope_RBO.sum(1) if to_bias else None,
            None,
        )


def _is_tall(value: Tensor) -> bool:
    """Whether a value is matrices [R O I] with more outputs than inputs."""
    return value.ndim == 3 and value.shape[1] > value.shape[2]


def fits(network: nn.Module, objective: Objective) -> bool:
    """Return whether a network is a plain chain of linear and elementwise layers.

    Subclasses, hooks and shared parameters may compute something else: such networks do not fit.
    """
    if not calls_plainly(objective):
        return False
    modules = [m for _, m in network.named_modules(remove_duplicate=False)]
    parameters = network.named_parameters(remove_duplicate=False)
    names = [name for name, p in parameters if p.requires_grad]
    return (
        all(_is_known(module) for module in modules)
        and any(type(module) is nn.Linear for module in modules)
        and names == list(Parameters(network).shapes)  # a shared parameter would have two names
    )


def _is_known(module: nn.Module) -> bool:
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
        return False
    if type(module) is nn.Flatten:
        return (module.start_dim, module.end_dim) == (1, -1)
    return type(module) in (nn.Sequential, nn.Linear, *ELEMENTWISE)


def _layers(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Layers with their names, in the order in which they are applied."""
    named = network.named_modules(remove_duplicate=False)
    return [(name, module) for name, module in named if type(module) is not nn.Sequential]
