"""The seam between a model and every method: output, loss, its derivatives, a measurement."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap

from bayestda.errors import UserError

Measurement = Callable[[Tensor, Tensor], Tensor]  # outputs [B K] and targets [B ...] -> [B]


class OutsideSpan(UserError):
    """The loss's gradient in the output is not in the span of its Hessian there."""


class Objective(Protocol):
    """What attribution must know of a model's training, besides the network.

    The Hessian of the loss in the output, S [K K], is given by a root R with R Rᵀ = S, and the
    loss's gradient in the output as R c. With both, Gauss-Newton curvature and gradients live in
    the same span and no pseudo-inverse is needed.
    """

    def output(self, network: nn.Module, x: Any) -> Tensor:
        """Outputs [B K] of the network on a batch of inputs."""

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Per-example loss [...] of output [..., K] and target [...]."""

    def measure(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """What scores explain [B], on test examples; usually the loss."""

    def hessian_root(self, output_BK: Tensor, y_B: Tensor, /) -> Tensor:
        """R [B K K] with R Rᵀ the Hessian of the loss in the output."""

    def gradient_in_root(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """c [B K] with R c the gradient of the loss in the output.

        Raises:
            OutsideSpan: there is none.
        """


def output_at(network: nn.Module, objective: Objective, named: dict[str, Tensor], x: Any) -> Tensor:
    """Outputs [B K] with some of the network's parameters replaced."""
    holder = AsCalled(network, objective)
    renamed = {f"network.{name}": value for name, value in named.items()}
    return functional_call(holder, renamed, (x,), tie_weights=True)


@dataclass(frozen=True)
class Measuring:
    """An objective that measures something else than it does of itself.

    Attributes:
        objective: gives outputs, loss and its Hessian.
        measurement: from outputs [B K] and targets to [B].
    """

    objective: Objective
    measurement: Measurement

    def __getattr__(self, name: str) -> Any:
        if name == "objective":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self.objective, name)

    def measure(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """The measurement."""
        return _called(self.measurement, output_BK, y_B)


def measuring(objective: Objective, measurement: str | Measurement | None) -> Objective:
    """The objective with another measurement.

    Args:
        objective: of the training.
        measurement: ``"loss"``, ``"margin"`` (:func:`margin`), ``"log_probability"``,
            ``"probability"`` of the right class (of one logit f that of the target 1 is σ(f)),
            ``"output"`` of networks with one; a function from outputs [B K] and targets to [B];
            None: what the objective measures.

    Raises:
        UserError: no such measurement.
    """
    if measurement is None:
        return objective
    named = named_measurements(objective)
    if isinstance(measurement, str) and measurement not in named:
        raise UserError(
            f"measurement={measurement!r} is unknown: choose one of {', '.join(named)}, or give a "
            "function from outputs [B, K] and targets to [B]"
        )
    function = named[measurement] if isinstance(measurement, str) else measurement
    return Measuring(innermost(objective), function)


def named_measurements(objective: Objective) -> dict[str, Measurement]:
    """What :func:`measuring` knows by name, for an objective's kind of output."""
    binary = isinstance(innermost(objective), BinaryClassification)
    return {"loss": objective.loss, **MEASUREMENTS, **(OF_ONE_LOGIT if binary else {})}


def innermost(objective: Any) -> Any:
    """The objective within one that only measures something else."""
    return getattr(objective, "objective", objective)


def calls_plainly(objective: Objective) -> bool:
    """Whether outputs are those of the network called on the inputs, and no more."""
    inner = objective.objective if type(objective) is Measuring else objective
    return isinstance(inner, _Standard) and type(inner).output is _Standard.output


class AsCalled(nn.Module):
    """A network as its objective calls it."""

    def __init__(self, network: nn.Module, objective: Objective):
        super().__init__()
        self.network, self.objective = network, objective

    def forward(self, x: Any) -> Tensor:
        """Outputs [B K]."""
        return self.objective.output(self.network, x)


def margin(output_BK: Tensor, y_B: Tensor) -> Tensor:
    """Log-odds of the right class, log p_y/(1 − p_y): high is good (Park et al. 2023, eq. 4)."""
    own_B1 = output_BK.gather(1, y_B[:, None])
    others_BK = output_BK.scatter(1, y_B[:, None], -torch.inf)
    return own_B1[:, 0] - others_BK.logsumexp(1)


def binary_margin(output_B1: Tensor, y_B: Tensor) -> Tensor:
    """Log-odds of the right one of two classes, of the logit of class 1: f or −f."""
    return (2 * y_B.reshape(-1).to(output_B1.dtype) - 1) * output_B1[:, 0]


def confident_loss(output_BK: Tensor, y_B: Tensor) -> Tensor:
    """Cross-entropy [B] as log(1 + e^−margin): its relative precision is that of the margin.

    The difference of logarithms that cross-entropy usually is loses all digits of a small loss:
    in float64 losses below 1e-16 are 0.
    """
    return F.softplus(-margin(output_BK, y_B), threshold=40.0)


def log_probability(output_BK: Tensor, y_B: Tensor) -> Tensor:
    """log p_y of the right class: minus the cross-entropy."""
    return output_BK.log_softmax(-1).gather(1, y_B[:, None])[:, 0]


def probability(output_BK: Tensor, y_B: Tensor) -> Tensor:
    """p_y of the right class."""
    return log_probability(output_BK, y_B).exp()


def single_output(output_BK: Tensor, _y_B: Tensor) -> Tensor:
    """The output itself, of networks that have one.

    Raises:
        UserError: the network has more.
    """
    if output_BK.shape[-1] != 1:
        raise UserError(
            f"measurement='output' is of networks with one output, not {output_BK.shape[-1]}: give "
            "a function that chooses, such as lambda output, y: output[:, 0]"
        )
    return output_BK[..., 0]


MEASUREMENTS: dict[str, Measurement] = {
    "margin": margin,
    "log_probability": log_probability,
    "probability": probability,
    "output": single_output,
}
OF_ONE_LOGIT: dict[str, Measurement] = {
    "margin": binary_margin,
    "log_probability": lambda output_B1, y_B: F.logsigmoid(binary_margin(output_B1, y_B)),
    "probability": lambda output_B1, y_B: binary_margin(output_B1, y_B).sigmoid(),
}


class _Standard:
    """Calls a network as most are called; measures the loss unless told otherwise."""

    measurement: Measurement | None

    def output(self, network: nn.Module, x: Any) -> Tensor:
        """``network(x)``, or ``network(**x)`` of a mapping; of a result its ``logits``.

        A network with one output per example may leave out the last dim.
        """
        result = network(**x) if isinstance(x, Mapping) else network(x)
        output = getattr(result, "logits", result)
        if not isinstance(output, Tensor) or output.ndim not in (1, 2):
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise UserError(
                f"the network's output is {found}; one row of outputs per example [B, K] is "
                "needed: write an Objective whose output() makes it"
            )
        return output[:, None] if output.ndim == 1 else output

    def measure(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """The measurement given, else the loss."""
        if self.measurement is None:
            return self.loss(output_BK, y_B)
        return _called(self.measurement, output_BK, y_B)

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class Classification(_Standard):
    """Cross-entropy of a softmax over K classes, with integer targets.

    Attributes:
        measurement: what scores explain, such as :func:`margin`; None: the loss.
    """

    measurement: Measurement | None = None

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """−log softmax(f)_y, per example.

        Give the output in float64 where small differences of confident predictions matter: in
        float32 the loss is quantised at 1.2e-7.
        """
        flat = F.cross_entropy(
            output.flatten(0, -2), y.expand(output.shape[:-1]).flatten(), reduction="none"
        )
        return flat.unflatten(0, output.shape[:-1])

    def hessian_root(self, output_BK: Tensor, _y_B: Tensor) -> Tensor:
        """R = diag(√p) − p √pᵀ, so that R Rᵀ = diag(p) − p pᵀ for softmax probabilities p."""
        p_BK = output_BK.softmax(-1)
        root_BK = p_BK.sqrt()
        return torch.diag_embed(root_BK) - p_BK[:, :, None] * root_BK[:, None, :]

    def gradient_in_root(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """c = √p − e_y/√p_y: then R c = p − e_y exactly, without inverting the singular R.

        −e_y/√p_y alone solves R c = p − e_y; adding √p, which R maps to 0, gives the solution of
        smallest norm, so that nothing large has to cancel.
        """
        root_BK = (0.5 * output_BK.log_softmax(-1)).exp()
        own_root_B1 = root_BK.gather(1, y_B[:, None])
        return root_BK.scatter_add(1, y_B[:, None], -1 / own_root_B1)


@dataclass(frozen=True)
class BinaryClassification(_Standard):
    """Cross-entropy of one logit f with targets y, 0 and 1: −y log σ(f) − (1 − y) log σ(−f).

    Attributes:
        measurement: what scores explain; None: the loss.
    """

    measurement: Measurement | None = None

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """−y log σ(f) − (1 − y) log σ(−f), per example: small losses keep their digits.

        Args:
            output: logits [..., 1].
            y: targets [...] or [..., 1].

        Raises:
            UserError: the network has more than one output, or an example more than one target.
        """
        target = _of_one_logit(y, output)
        loss = -target * F.logsigmoid(output) - (1 - target) * F.logsigmoid(-output)
        return loss[..., 0]

    def hessian_root(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """R = √(p (1 − p))."""
        _of_one_logit(y_B, output_BK)
        return (0.5 * (F.logsigmoid(output_BK) + F.logsigmoid(-output_BK))).exp()[:, :, None]

    def gradient_in_root(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """c = (p − y)/√(p (1 − p)) = (1 − y) e^(f/2) − y e^(−f/2)."""
        y_B1 = _of_one_logit(y_B, output_BK)
        return (1 - y_B1) * (output_BK / 2).exp() - y_B1 * (-output_BK / 2).exp()


@dataclass(frozen=True)
class Regression(_Standard):
    """Mean squared error, (1/K) ‖f − y‖² per example, as ``nn.MSELoss``.

    Attributes:
        measurement: what scores explain; None: the loss.
    """

    measurement: Measurement | None = None

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Mean over outputs of (f − y)²."""
        return (output - _like(y, output)).square().mean(-1)

    def hessian_root(self, output_BK: Tensor, _y_B: Tensor) -> Tensor:
        """R = √(2/K) I."""
        num_outputs = output_BK.shape[1]
        eye_KK = torch.eye(num_outputs, dtype=output_BK.dtype, device=output_BK.device)
        return (eye_KK * (2 / num_outputs) ** 0.5).expand(len(output_BK), -1, -1)

    def gradient_in_root(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """c = √(2/K) (f − y)."""
        return (output_BK - _like(y_B, output_BK)) * (2 / output_BK.shape[1]) ** 0.5


@dataclass(frozen=True)
class FromLoss(_Standard):
    """Any twice differentiable per-example loss; its Hessian in the output is found by autograd.

    For scores the function is given outputs in float64, in training those of the network: a tensor
    of its own follows them by ``w.to(f)``. Targets of a floating type come in the outputs' dtype.

    Attributes:
        function: from outputs [B K] and targets to losses [B]; convex in the output.
        measurement: what scores explain; None: the loss.
    """

    function: Measurement
    measurement: Measurement | None = field(default=None)

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """The function's value, per example.

        Raises:
            UserError: it returns something else than one number per example, or does not take
                outputs of this dtype.
        """
        flat = output.flatten(0, -2)
        target = y.expand(*output.shape[:-1], *y.shape[1:]).reshape(len(flat), *y.shape[1:])
        loss = _called(self.function, flat, target)
        if loss.shape != flat.shape[:1]:
            raise UserError(
                f"the loss has shape {tuple(loss.shape)} for {len(flat)} examples: it must give "
                "one number per example, so use reduction='none'"
            )
        return loss.unflatten(0, output.shape[:-1])

    def hessian_root(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """The symmetric root of the Hessian; negative eigenvalues count as 0."""
        values_BK, vectors_BKK = self._spectrum(output_BK, y_B)
        return vectors_BKK * values_BK.sqrt()[:, None] @ vectors_BKK.mT

    def gradient_in_root(self, output_BK: Tensor, y_B: Tensor) -> Tensor:
        """c = R⁺ ∇ℓ.

        Raises:
            OutsideSpan: R c is not the gradient, as where a loss is linear in the output.
        """
        gradient_BK = vmap(grad(self._one))(output_BK, y_B)
        values_BK, vectors_BKK = self._spectrum(output_BK, y_B)
        turned_BK = (vectors_BKK.mT @ gradient_BK[..., None])[..., 0]
        curved_BK = values_BK > values_BK.amax(1, keepdim=True) * 1e-12
        outside_B = turned_BK.masked_fill(curved_BK, 0).norm(dim=1)
        outside_B = outside_B > 1e-6 * gradient_BK.norm(dim=1).max()
        if outside_B.any():
            raise OutsideSpan(
                f"the loss has a slope but no curvature in the output of {int(outside_B.sum())} of "
                f"{len(outside_B)} training examples, as Huber's has for large residuals: use "
                "influence, flow, influence_cg, influence_projected or influence_ekfac"
            )
        inverse_BK = torch.where(curved_BK, values_BK, torch.inf).rsqrt()
        return (vectors_BKK @ (inverse_BK * turned_BK)[..., None])[..., 0]

    def _one(self, output_K: Tensor, y: Tensor) -> Tensor:
        return self.loss(output_K[None], y[None])[0]

    def _spectrum(self, output_BK: Tensor, y_B: Tensor) -> tuple[Tensor, Tensor]:
        values_BK, vectors_BKK = torch.linalg.eigh(vmap(jacrev(grad(self._one)))(output_BK, y_B))
        return values_BK.clamp(min=0), vectors_BKK


def _called(function: Measurement, output_BK: Tensor, y_B: Tensor) -> Tensor:
    """A loss or measurement, with targets of a floating type in the outputs' dtype.

    Raises:
        UserError: it does not take outputs of this dtype.
    """
    target_B = y_B.to(output_BK.dtype) if y_B.is_floating_point() else y_B
    try:
        return function(output_BK, target_B)
    except RuntimeError as error:
        if "dtype" not in str(error) and "scalar type" not in str(error):
            raise
        raise UserError(
            f"a loss or measurement does not take outputs f in {_word(output_BK.dtype)} "
            f"({str(error).splitlines()[0]}): let its own tensors follow them, w.to(f)"
        ) from error


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _of_one_logit(y: Tensor, output: Tensor) -> Tensor:
    """Targets [..., 1] for outputs [..., 1], of targets [...] or [..., 1]."""
    if output.shape[-1] != 1:
        raise UserError(
            f"BinaryClassification is of networks with one output, the logit of class 1, not "
            f"{output.shape[-1]}: use Classification, or FromLoss"
        )
    target = y if y.ndim > 1 and y.shape == output.shape[-y.ndim :] else y[..., None]
    if target.shape != output.shape[-target.ndim :]:
        raise UserError(
            f"targets {tuple(y.shape)} do not fit outputs {tuple(output.shape)} of "
            "BinaryClassification: give one per example, [B] or [B, 1]"
        )
    return target.to(output.dtype)


def _like(y: Tensor, output: Tensor) -> Tensor:
    """Targets [..., K], of targets that may lack the dim of a single output."""
    if y.ndim == 1 and output.shape[-1] != 1:
        raise UserError(f"targets [B] do not fit {output.shape[-1]} outputs: give targets [B, K]")
    return y[:, None] if y.ndim == 1 else y
