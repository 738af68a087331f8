r"""Differentiate whole training runs in the weights of examples: unrolled differentiation.

Examples n of the batch of step t have the weights w in the loss. Member r of a run moves them in
the direction :math:`d_r`, which is −1 for the examples it removes. With u the optimiser's
direction, ω the weight decay and :math:`r_0 = 0`:

.. math::
    g_t &= \tfrac1B \textstyle\sum_{n \in b_t} w_n \nabla\ell_n + \omega \theta_t \\
    dg_t &= (H_t + \omega I) r_t + \tfrac1B \textstyle\sum_{n \in b_t} d_{rn} \nabla\ell_n \\
    r_{t+1} &= r_t - \eta_t \, du(g_t)[dg_t]

(Mlodozeniec et al. 2025, arXiv 2506.12965, whose recursion is that of plain SGD). The change of the
measurement is :math:`\nabla m(\theta_T)^\top r_T`. dg is one Jacobian-vector product of the
gradient, so that memory does not grow with the steps. Runs S and members R are stacked where the
network goes through ``vmap`` and forward mode.
:func:`tda.shifts` moves weights by whole examples or groups, :func:`tda.replay` by any amount.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bayestda.model.examples import Data, blocks
from bayestda.model.inputs import rows_of
from bayestda.model.objective import Objective
from bayestda.model.parameters import private_copy
from bayestda.model.precision import matmul_precision
from bayestda.retraining.batch_derivatives import BatchDerivatives
from bayestda.retraining.measured_changes import MeasuredChanges
from bayestda.training.optimizers import State, Step, decays, rule_of, steps
from bayestda.training.posterior import Posterior
from bayestda.training.recipe import Recipe
from bayestda.training.recorded import check_same_runs, recorded_training

TEST_BLOCK = 64  # test examples differentiated at a time: bounds the memory, only speed


@matmul_precision(tf32=False)
def unrolled_changes(
    posterior: Posterior,
    objective: Objective,
    train: Data,
    queries: Data,
    direction_RN: Tensor,
    *,
    chunk: int,
) -> Tensor:
    """Return the derivative of every run's measurement along each direction [S C R M], float64.

    Args:
        posterior: The recorded runs, without dropout.
        objective: The objective, which gives the loss and the measurement.
        train: The examples that the runs were trained on.
        queries: The examples that are measured.
        direction_RN: How each member moves the weights of the examples.
        chunk: The number of pairs of a run and a member that go stacked through a step.

    Raises:
        UserError: The posterior was trained elsewhere, or on other examples.
    """
    seeds, num_members = posterior.seeds, len(direction_RN)
    sizes = (len(seeds), len(posterior.checkpoints), num_members, len(queries))
    values = torch.empty(sizes, dtype=torch.float64)
    members = min(num_members, chunk)
    # Runs whose networks differ in more than θ are not stacked.
    runs = 1 if recorded_training(posterior).apart else max(1, chunk // members)
    for first_run in range(0, len(seeds), runs):
        some = slice(first_run, first_run + runs)
        for first in range(0, num_members, members):
            own_RN = direction_RN[first : first + members]
            found = _changes_of(posterior, objective, (train, queries), seeds[some], own_RN)
            values[some, :, first : first + members] = found.cpu()
    return values


def _changes_of(
    posterior: Posterior,
    objective: Objective,
    data: tuple[Data, Data],
    seeds: Sequence[int],
    direction_RN: Tensor,
) -> Tensor:
    """Derivatives [S C R M] of some runs along some directions."""
    training = recorded_training(posterior)
    initial_SP = torch.stack([training.initial[seed] for seed in seeds]).to(direction_RN)
    order_SEN = torch.cat([training.order[seed] for seed in seeds]).to(direction_RN.device)
    network = posterior.template(seeds[0])
    unrolled = Unrolled(network, objective, training.recipe, initial_SP, direction_RN)
    kept: list[Tensor] = []
    for step in steps(training.recipe, order_SEN):
        unrolled.step(step, data[0])
        if step.kept:
            check_same_runs(posterior, seeds, len(kept), unrolled.theta_SP, initial_SP)
            kept.append(unrolled.changes(data[1]))
    return torch.stack(kept, dim=1)


class Unrolled:
    """Repeat runs step by step, together with the derivatives of their parameters.

    Args:
        network: The architecture, without dropout and batch norm.
        objective: The objective, which gives the loss and the measurement.
        recipe: The recipe of the training.
        theta_SP: Parameters at the start.
        direction_RN: How each member moves the weights of the examples.

    Attributes:
        theta_SP: Parameters of the runs.
        shift_SRP: Their derivatives r.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        recipe: Recipe,
        theta_SP: Tensor,
        direction_RN: Tensor,
    ):
        network = private_copy(network).eval()
        self.derivatives = BatchDerivatives(network, objective)
        self.measured = MeasuredChanges(network, objective)
        self.recipe, self.rule = recipe, rule_of(recipe)
        self.theta_SP, self.direction_RN, self.count = theta_SP, direction_RN, 0
        zero_SRP = theta_SP.new_zeros(len(theta_SP), len(direction_RN), theta_SP.shape[1])
        self.shift_SRP = zero_SRP
        self.state: State = (torch.zeros_like(theta_SP[:, None]),) * self.rule.moments
        self.moving: State = (zero_SRP,) * self.rule.moments

    def step(self, step: Step, data: Data) -> None:
        """Take one step of all runs, each on its own batch.

        Args:
            step: Description of the step, with positions [S B].
            data: Training examples.
        """
        direction_SRB = self.direction_RN[:, step.batch].transpose(0, 1)
        batch = (rows_of(data.x, step.batch), data.y[step.batch])
        gradient_SP, change_SRP = self.derivatives.changes(
            self.theta_SP, self.shift_SRP, direction_SRB, batch
        )
        # g_t and dg_t of the recursion above; decay is inside the gradient (Adam, SGD) ...
        (inside, outside), self.count = decays(self.recipe), self.count + 1
        gradient_S1P = (gradient_SP + inside * self.theta_SP)[:, None]
        change_SRP = change_SRP + inside * self.shift_SRP

        direction_S1P, self.state = self.rule.direction(gradient_S1P, self.state, self.count)
        turned_SRP, self.moving = self.rule.derivative(
            gradient_S1P, self.state, change_SRP, self.moving, self.count
        )
        # ... or outside of it (AdamW), and then acts on θ and r directly.
        self.theta_SP = self.theta_SP - step.rate * (direction_S1P[:, 0] + outside * self.theta_SP)
        self.shift_SRP = self.shift_SRP - step.rate * (turned_SRP + outside * self.shift_SRP)

    def changes(self, queries: Data) -> Tensor:
        """Return ∇m(θ)ᵀ r of all queries [S R M], float64."""
        pieces = [
            self.measured.changes(self.theta_SP, self.shift_SRP, (batch.x, batch.y))
            for batch in blocks(queries, TEST_BLOCK)
        ]
        return torch.cat(pieces, dim=-1)
