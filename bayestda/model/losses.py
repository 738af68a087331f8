"""Provide the usual losses as objectives: classification, regression, and any function."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayestda.errors import UserError
from bayestda.model.measurements import evaluate
from bayestda.model.objective import Measurement, OutsideSpan
from bayestda.model.output_derivatives import loss_derivatives
from bayestda.model.targets import IGNORED, classes, numbers, zero_or_one

# Relative to the largest eigenvalue of an example's Hessian: smaller ones are zero up to rounding.
_FLAT = 1e-12
# Share of the largest gradient that may lie where the Hessian is flat: beyond it, no rounding.
_OUTSIDE = 1e-6


class Standard:
    """Call a network as most networks are called; measure the loss unless told otherwise."""

    measurement: Measurement | None

    def output(self, network: nn.Module, x: Any) -> Tensor:
        """Return outputs [B K]: ``network(x)``, or ``network(**x)`` for a mapping.

        It is ``network(*x)`` for several inputs in a tuple or a list.
        Of a result with ``logits`` those are taken. A network with one output per example may
        leave out the last dim.

        Raises:
            UserError: The network's output has another form.
        """
        if isinstance(x, Mapping):
            result = network(**x)
        else:
            result = network(*x) if isinstance(x, tuple | list) else network(x)
        output = getattr(result, "logits", result)
        if not isinstance(output, Tensor) or output.ndim not in (1, 2):
            form = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise UserError(
                f"the network's output is {form}; one row of outputs per example [B, K] is "
                "needed: write an Objective whose output() makes it"
            )
        return output[:, None] if output.ndim == 1 else output

    def measure(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """Return the measurement [B] if one was given, else the loss."""
        if self.measurement is None:
            return self.loss(output_BK, y_B)
        return evaluate(self.measurement, output_BK, y_B)

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each example [...] for outputs [..., K] and targets [...]."""
        raise NotImplementedError


@dataclass(frozen=True)
class Classification(Standard):
    """Train on the cross-entropy of a softmax over K classes, with class numbers [B] as targets.

    An example of class -100 has no loss and no curvature, but counts in means over examples.
    Probabilities of the classes [B K] are targets, too.

    Attributes:
        measurement: What scores explain, such as :func:`bayestda.model.measurements.margin`;
            None: the loss.
    """

    measurement: Measurement | None = None

    def fit_targets(self, y: Tensor, num_outputs: int, index: np.ndarray | None = None) -> Tensor:
        """Return targets as :func:`bayestda.model.targets.classes` makes them."""
        return classes(y, num_outputs, index)

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return −log softmax(f)_y of each example.

        In float32 the loss is quantised at 1.2e-7: give outputs in float64 where small
        differences of confident predictions matter.
        """
        logits = output.flatten(0, -2)
        if y.is_floating_point():
            target = y.to(output.dtype).expand(output.shape).flatten(0, -2)
        else:
            target = y.expand(output.shape[:-1]).flatten()
        return F.cross_entropy(logits, target, reduction="none").unflatten(0, output.shape[:-1])

    def hessian_root(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """Return R = diag(√p) − p √pᵀ; R Rᵀ = diag(p) − p pᵀ for softmax probabilities p."""
        p_BK = output_BK.softmax(-1)
        root_BK = p_BK.sqrt()
        root_BKK = torch.diag_embed(root_BK) - p_BK[:, :, None] * root_BK[:, None, :]
        ignored_B = _ignored(y_B)
        return root_BKK if ignored_B is None else root_BKK.masked_fill(ignored_B[:, None, None], 0)

    def gradient_in_root(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """Return c = √p − e_y/√p_y: then R c = p − e_y exactly, without inverting R.

        R is singular, and −e_y/√p_y alone solves R c = p − e_y. Adding √p, which R maps to 0,
        gives the solution of smallest norm, so that nothing large has to cancel. Probabilities y
        have c = √p − y/√p.
        """
        root_BK = (0.5 * output_BK.log_softmax(-1)).exp()
        if y_B.is_floating_point():
            return root_BK - torch.where(y_B > 0, y_B.to(root_BK.dtype) / root_BK, 0)
        right_B1 = y_B.clamp(min=0)[:, None]
        right_root_B1 = root_BK.gather(1, right_B1)
        c_BK = root_BK.scatter_add(1, right_B1, -1 / right_root_B1)
        ignored_B = _ignored(y_B)
        return c_BK if ignored_B is None else c_BK.masked_fill(ignored_B[:, None], 0)


@dataclass(frozen=True)
class BinaryClassification(Standard):
    """Train on the cross-entropy of one logit f, −y log σ(f) − (1 − y) log σ(−f); y is 0 or 1.

    Attributes:
        measurement: What scores explain; None: the loss.
    """

    measurement: Measurement | None = None

    def fit_targets(self, y: Tensor, num_outputs: int, index: np.ndarray | None = None) -> Tensor:
        """Return targets after the look of :func:`bayestda.model.targets.zero_or_one`."""
        return zero_or_one(y, num_outputs, index)

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return −y log σ(f) − (1 − y) log σ(−f) of each example; small losses keep their digits.

        Args:
            output: Logits [..., 1].
            y: Targets [...] or [..., 1].

        Raises:
            UserError: The network has more than one output, or an example more than one target.
        """
        target = _one_target(y, output)
        loss = -target * F.logsigmoid(output) - (1 - target) * F.logsigmoid(-output)
        return loss[..., 0]

    def hessian_root(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """Return R = √(p (1 − p))."""
        _one_target(y_B, output_BK)  # only to refuse outputs or targets of another form
        return (0.5 * (F.logsigmoid(output_BK) + F.logsigmoid(-output_BK))).exp()[:, :, None]

    def gradient_in_root(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """Return c = (p − y)/√(p (1 − p)) = (1 − y) e^(f/2) − y e^(−f/2)."""
        y_B1 = _one_target(y_B, output_BK)
        return (1 - y_B1) * (output_BK / 2).exp() - y_B1 * (-output_BK / 2).exp()


@dataclass(frozen=True)
class Regression(Standard):
    """Train on the mean squared error (1/K) ‖f − y‖² of each example, as ``nn.MSELoss``.

    Attributes:
        measurement: What scores explain; None: the loss.
    """

    measurement: Measurement | None = None

    def fit_targets(self, y: Tensor, num_outputs: int, index: np.ndarray | None = None) -> Tensor:
        """Return targets after the look of :func:`bayestda.model.targets.numbers`."""
        return numbers(y, num_outputs, index)

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the mean over outputs of (f − y)², for each example."""
        return (output - _targets_like(y, output)).square().mean(-1)

    def hessian_root(self, output_BK: Tensor, _y_B: Tensor) -> Tensor:
        """Return R = √(2/K) I."""
        num_outputs = output_BK.shape[1]
        eye_KK = torch.eye(num_outputs, dtype=output_BK.dtype, device=output_BK.device)
        return (eye_KK * (2 / num_outputs) ** 0.5).expand(len(output_BK), -1, -1)

    def gradient_in_root(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """Return c = √(2/K) (f − y)."""
        return (output_BK - _targets_like(y_B, output_BK)) * (2 / output_BK.shape[1]) ** 0.5


@dataclass(frozen=True)
class FromLoss(Standard):
    """Train on any twice differentiable loss; autograd gives its Hessian in the output.

    Scores call the function with outputs in float64, training with those of the network. Tensors
    of its own should follow by ``w.to(f)``. Floating targets come in the outputs' dtype.

    Attributes:
        function: A function from outputs [B K] and targets to losses [B]; convex in the output.
        measurement: What scores explain; None: the loss.
    """

    function: Measurement
    measurement: Measurement | None = field(default=None)

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the function's value of each example.

        Raises:
            UserError: The function does not return one number per example, or does not take
                outputs of this dtype.
        """
        # Members share targets [B ...]: they are repeated along the leading dims of the outputs.
        flat = output.flatten(0, -2)
        target = y.expand(*output.shape[:-1], *y.shape[1:]).reshape(len(flat), *y.shape[1:])
        loss = evaluate(self.function, flat, target)
        if loss.shape != flat.shape[:1]:
            raise UserError(
                f"the loss has shape {tuple(loss.shape)} for {len(flat)} examples: it must give "
                "one number per example, so use reduction='none'"
            )
        return loss.unflatten(0, output.shape[:-1])

    def hessian_root(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """Return the symmetric root of the Hessian; negative eigenvalues count as 0."""
        _, values_BK, vectors_BKK = self._spectrum(output_BK, y_B)
        return vectors_BKK * values_BK.sqrt()[:, None] @ vectors_BKK.mT

    def gradient_in_root(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """Return c = R⁺ ∇ℓ.

        Raises:
            OutsideSpan: R c is not the gradient, for example where a loss is linear in the output.
        """
        gradient_BK, values_BK, vectors_BKK = self._spectrum(output_BK, y_B)
        # The gradient in the Hessian's eigenvectors, and its part where the Hessian is flat.
        turned_BK = (vectors_BKK.mT @ gradient_BK[..., None])[..., 0]
        curved_BK = values_BK > values_BK.amax(1, keepdim=True) * _FLAT
        flat_norm_B = turned_BK.masked_fill(curved_BK, 0).norm(dim=1)
        outside_B = flat_norm_B > _OUTSIDE * gradient_BK.norm(dim=1).max()
        if outside_B.any():
            raise OutsideSpan(
                f"the loss has a slope but no curvature in the output of {int(outside_B.sum())} of "
                f"{len(outside_B)} training examples, as Huber's has for large residuals: use "
                "influence, flow, influence_cg, influence_projected or influence_ekfac"
            )
        # R⁺ = V diag(1/√s) Vᵀ, without the flat directions, whose 1/√∞ is 0.
        inverse_BK = torch.where(curved_BK, values_BK, torch.inf).rsqrt()
        return (vectors_BKK @ (inverse_BK * turned_BK)[..., None])[..., 0]

    def _spectrum(self, output_BK: Tensor, y_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients in the output, and eigenvalues and eigenvectors of the Hessians."""
        gradient_BK, hessian_BKK = loss_derivatives(lambda f_BK: self.loss(f_BK, y_B), output_BK)
        values_BK, vectors_BKK = torch.linalg.eigh(hessian_BKK)
        return gradient_BK, values_BK.clamp(min=0), vectors_BKK


def _one_target(y: Tensor, output: Tensor) -> Tensor:
    """Targets [..., 1] for outputs [..., 1], from targets [...] or [..., 1]."""
    if output.shape[-1] != 1:
        raise UserError(
            f"BinaryClassification needs a network with one output, the logit of class 1, not "
            f"{output.shape[-1]}: use Classification, or FromLoss"
        )
    target = y if y.ndim > 1 and y.shape == output.shape[-y.ndim :] else y[..., None]
    if target.shape != output.shape[-target.ndim :]:
        raise UserError(
            f"targets {tuple(y.shape)} do not fit outputs {tuple(output.shape)} of "
            "BinaryClassification: give one per example, [B] or [B, 1]"
        )
    return target.to(output.dtype)


def _targets_like(y: Tensor, output: Tensor) -> Tensor:
    """Targets [..., K]; those of a single output may lack its dim."""
    target = y[:, None] if y.ndim == 1 and output.shape[-1] == 1 else y
    if target.ndim < 2 or target.shape != output.shape[-target.ndim :]:
        raise UserError(
            f"targets {tuple(y.shape)} do not fit outputs {tuple(output.shape)} of Regression: "
            "give one target per output [B, K]"
        )
    return target


def _ignored(y_B: Tensor) -> Tensor | None:
    """Which examples have no class, or None if all have one."""
    ignored_B = y_B == IGNORED
    return ignored_B if y_B.ndim == 1 and ignored_B.any() else None
