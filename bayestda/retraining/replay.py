r"""Leave-one-out without retraining: a training run is gone through again with other weights.

The base run visited :math:`\theta_0, \dots, \theta_T`; member j, with weights :math:`w_j` of the
examples, would have visited :math:`\theta_t + r_{j,t}`. Two ways to follow it:

- ``linearised``: the network, not the training, is linearised, around the base run's *current*
  point, :math:`f_n(\theta_t + r) \approx f_n + J_n r`. The removal keeps its full size, the loss
  its form, the optimiser its moments:

  .. math::
      G_{j,t} &= \tfrac1B \textstyle\sum_{n \in b_t} w_{jn} J_n^\top \nabla\ell_n(f_n + J_n r_{j,t})
                + \omega (\theta_t + r_{j,t}) \\
      r_{j,t+1} &= r_{j,t} - \eta_t [u(G_{j,0..t}) - u(G_{0,0..t})]

  with u the optimiser's direction and member 0 the base run. It is retraining where the network is
  linear in θ.
- ``exact``: the derivative of the run in the weights, with the loss's whole Hessian: first order
  in the removal (:mod:`bayestda.retraining.unrolling`).

Either way the score is :math:`\nabla g(z; \theta_T)^\top r_{j,T}`, first order in the measurement.
Letters: N train, M test, K outputs, B batch, R members (0: base run), P parameters.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import xarray as xr
from torch import Tensor, nn

from bayestda.errors import UserError
from bayestda.gradients.factored import Rows
from bayestda.gradients.looks import ways_of
from bayestda.gradients.sample import SampleGradients, output_cotangents, value_cotangents
from bayestda.gradients.ways import Ways
from bayestda.model.examples import Data, blocks, labels
from bayestda.model.inputs import rows_of
from bayestda.model.objective import Objective
from bayestda.model.parameters import first_trained
from bayestda.model.precision import matmul_precision
from bayestda.retraining.unrolling import unrolled_changes
from bayestda.training.optimizers import State, Step, decays, rule_of, steps
from bayestda.training.posterior import Posterior
from bayestda.training.recipe import Recipe
from bayestda.training.recorded import check_same_runs, looked_examples, recorded_training

KINDS = ("linearised", "exact")
TEST_BLOCK = 64  # test examples whose gradients are held at a time
# Members whose derivatives go stacked through a step: CNN2 is no faster with 30 than with 8, and
# perceptrons gain. Changes only speed and memory.
TOGETHER = 16


@matmul_precision(tf32=False)
def replay(
    posterior: Posterior,
    objective: Objective,
    train: Any,
    test: Any,
    *,
    kind: "str | type[Linearised]" = "linearised",
    weights: Any = None,
) -> xr.DataArray:
    """Predict what :func:`tda.leave_one_out` measures, from one run a seed: positive = helpful.

    Nothing is tuned. The run is repeated step by step, as only its checkpoints are kept. Memory:
    J of a batch, [B K P], and up to four vectors of length P for each member. A step costs K
    vector-Jacobian products per example and 4 R B K P operations (``linearised``), or one
    Hessian-vector product per member (``exact``).

    Args:
        posterior: A posterior from :func:`tda.train_posterior`, without dropout.
        objective, train, test: As in :func:`tda.attribute`; ``train`` is what was trained on.
        kind: ``linearised``, or ``exact``, the derivative in the weights, for small removals; or a
            subclass of :class:`Linearised` (:mod:`bayestda.retraining.ablations` has some).
        weights: Weights of the examples' losses [R N], as in :func:`tda.retrained`; default: each
            example removed in turn.

    Returns:
        Dims (seed, checkpoint, train, test), or (seed, checkpoint, member, test) with weights: the
        measurement with these weights less that of the base run.

    Raises:
        UserError: The posterior was trained elsewhere, with dropout, or on other examples, or what
            is replayed is not finite.
    """
    if isinstance(kind, str) and kind not in KINDS:
        raise UserError(f"kind={kind!r} is unknown: choose one of {', '.join(KINDS)}")
    training = recorded_training(posterior)
    if training.dropout:
        raise UserError("a run with dropout cannot be replayed: train without, or retrain")
    held, queries = looked_examples(posterior, objective, train, test)
    weight_RN = _weights(weights, len(held), first_trained(posterior.template(posterior.seeds[0])))
    if kind == "exact":
        values = unrolled_changes(
            posterior, objective, held, queries, weight_RN[1:] - 1, chunk=TOGETHER
        ).to(weight_RN.dtype)
    else:
        follow = Linearised if isinstance(kind, str) else kind
        runs = [_Replay(posterior, objective, seed, held, queries) for seed in posterior.seeds]
        values = torch.stack([run.scores(follow, weight_RN) for run in runs])
    if not values.isfinite().all():
        raise UserError(
            "a replayed change is not finite: look for losses and layers whose derivatives are not "
            "(sqrt and norms at 0), and for runs that nearly diverge, or take tda.leave_one_out"
        )
    name = kind if isinstance(kind, str) else kind.__name__.lower()
    row = "train" if weights is None else "member"
    coords = {"seed": list(posterior.seeds), "checkpoint": list(posterior.checkpoints)}
    coords |= labels("test", queries) | (labels("train", held) if weights is None else {})
    return xr.DataArray(
        values.cpu().numpy(), dims=("seed", "checkpoint", row, "test"), coords=coords,
        name="replay",
        attrs={"method": "replay", "kind": name, "sign": "positive = helpful"},
    )  # fmt: skip


class Linearised:
    """Members of the network that is linearised around the base run, which is member 0.

    Attributes:
        shift_RP: The difference of each from the base run.
    """

    def __init__(self, recipe: Recipe, weight_RN: Tensor, theta_P: Tensor):
        self.recipe, self.weight_RN = recipe, weight_RN
        self.rule = rule_of(recipe)
        self.shift_RP = theta_P.new_zeros(len(weight_RN), len(theta_P))
        self.state: State = (self.shift_RP,) * self.rule.moments

    def step(self, at: SampleGradients, step: Step, count: int) -> Tensor:
        """Take a step and return θ of the base run after it [P]."""
        rows_BkP = at.vectors(self._jacobian(at)).flatten(0, 1)
        output_RBK = at.outputs_NK + self.changes(rows_BkP).unflatten(1, at.outputs_NK.shape)
        weight_RB = self.weight_RN[:, step.batch]
        residual_RBK = weighted_gradient(at.objective, output_RBK, at.targets_N, weight_RB)
        gradient_RP = residual_RBK.flatten(1) @ rows_BkP / len(step.batch)
        inside, outside = decays(self.recipe)
        decaying_RP = self.decaying(at.theta_P)
        gradient_RP += inside * decaying_RP
        direction_RP, self.state = self.rule.direction(gradient_RP, self.state, count)
        direction_RP = direction_RP + outside * decaying_RP
        self.shift_RP = self.shift_RP - step.rate * (direction_RP - direction_RP[:1])
        return at.theta_P - step.rate * direction_RP[0]

    def changes(self, rows_kP: Tensor) -> Tensor:
        """Return what the shifts change in outputs [R k], given their gradients."""
        return self.shift_RP @ rows_kP.T

    def decaying(self, theta_P: Tensor) -> Tensor:
        """Return what weight decay pulls to zero [R P]."""
        return theta_P + self.shift_RP

    def _jacobian(self, at: SampleGradients) -> Rows:
        x_B = at.train_data.take(slice(None)).x
        return at.captured(x_B, output_cotangents)


def weighted_gradient(
    objective: Objective, output_RBK: Tensor, y_B: Tensor, weight_RB: Tensor
) -> Tensor:
    """Return w ∇ℓ in the outputs of all members [R B K], taken in float64; 0 where w is 0.

    Raises:
        UserError: The loss of linearised outputs is not finite.
    """
    wide_RBK = output_RBK.detach().double().requires_grad_()
    loss_RB, has_weight_RB = objective.loss(wide_RBK, y_B), weight_RB != 0
    finite_RB = loss_RB.detach().isfinite()  # of a base run that diverges its checkpoints tell
    if (~finite_RB & has_weight_RB & finite_RB[:1]).any():
        raise UserError(
            "the loss of linearised outputs is not finite, as linearised probabilities may be "
            "negative: let the network give what may be any number, such as logits, or take "
            "kind='exact' or tda.leave_one_out"
        )
    (gradient_RBK,) = torch.autograd.grad(loss_RB.sum(), wide_RBK)
    weighted_RBK = gradient_RBK.to(output_RBK.dtype) * weight_RB[..., None]
    return weighted_RBK.masked_fill(~has_weight_RB[..., None], 0)


@dataclass(frozen=True)
class _Replay:
    """One seed's run, and what it is replayed with."""

    posterior: Posterior
    objective: Objective
    seed: int
    data: Data
    queries: Data

    def scores(self, kind: type[Linearised], weight_RN: Tensor) -> Tensor:
        """Return scores [C R M] of the members after the base run, at each kept checkpoint."""
        training = recorded_training(self.posterior)
        theta_P = initial_P = training.initial[self.seed].to(weight_RN.device)
        members = kind(training.recipe, weight_RN, theta_P)
        order_EN = training.order[self.seed][0].to(weight_RN.device)
        kept: list[Tensor] = []
        for count, step in enumerate(steps(training.recipe, order_EN), start=1):
            theta_P = members.step(self._at(theta_P, step.batch), step, count)
            if step.kept:
                check_same_runs(
                    self.posterior, [self.seed], len(kept), theta_P[None], initial_P[None]
                )
                kept.append(self._first_order(theta_P, members.shift_RP[1:]))
        return torch.stack(kept)

    def _at(self, theta_P: Tensor, batch_B: Tensor) -> SampleGradients:
        """Return gradients of a batch's examples."""
        index = self.data.index[batch_B.cpu().numpy()]
        batch = Data(rows_of(self.data.x, batch_B), self.data.y[batch_B], index)
        return SampleGradients(
            self.network, self.objective, theta_P, train=batch, test=self.queries, memory_bytes=0,
            ways=self.ways,
        )  # fmt: skip

    @cached_property
    def network(self) -> nn.Module:
        """The architecture."""
        return self.posterior.network(self.seed, 0)

    @cached_property
    def ways(self) -> Ways:
        """How rows are made, in all steps."""
        return ways_of(self.network, self.objective, self.data.x)

    def _first_order(self, theta_P: Tensor, shift_RP: Tensor) -> Tensor:
        """∇g(z)ᵀ r [R M]."""
        at, columns = self._at(theta_P, torch.zeros(1, dtype=torch.long)), []
        for batch in blocks(self.queries, TEST_BLOCK):
            cotangents = value_cotangents(self.objective.measure, batch.y)
            test_MP = at.vectors(at.captured(batch.x, cotangents))[:, 0]
            columns.append(shift_RP @ test_MP.T)
        return torch.cat(columns, dim=1)


def _weights(weights: Any, num_train: int, like: Tensor) -> Tensor:
    """Weights of the base run and the members [1 + R N]."""
    base_1N = torch.ones(1, num_train, dtype=like.dtype, device=like.device)
    if weights is None:
        return torch.cat([base_1N, 1 - torch.eye(num_train).to(base_1N)])
    given_RN = torch.as_tensor(weights).to(base_1N)
    if given_RN.shape[1:] != (num_train,):
        raise UserError(
            f"weights must have one column per training example, {num_train}, not "
            f"{tuple(given_RN.shape)}"
        )
    return torch.cat([base_1N, given_RN])
