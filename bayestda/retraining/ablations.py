"""The linearised replay with one of its ideas left out, to see what each is worth.

Classes for ``kind=`` of :func:`tda.replay`; letters as in :mod:`bayestda.retraining.replay`. Two
further ideas need no class: weights close to one leave out the finite size of the removal, and the
influence function of the last checkpoints leaves out the trajectory.
"""

from torch import Tensor

from bayestda.errors import UserError
from bayestda.retraining.replay import Linearised
from bayestda.training.optimizers import BETA1, BETA2, Adam, State, mean_rate
from bayestda.training.recipe import Recipe


class WithoutCurvature(Linearised):
    """Outputs stay those of the base run: Grad-Dot along the run, through the optimiser."""

    def changes(self, rows_kP: Tensor) -> Tensor:
        """Return zeros: no output changes."""
        return self.shift_RP.new_zeros(len(self.shift_RP), len(rows_kP))


class WithoutDecay(Linearised):
    """Weight decay acts on the base run alone."""

    def decaying(self, theta_P: Tensor) -> Tensor:
        """Return the base run's parameters, for all members."""
        return theta_P.expand_as(self.shift_RP)


class WithoutScaleResponse(Linearised):
    """Adam's step sizes are the base run's: a fixed preconditioner of each step."""

    def __init__(self, recipe: Recipe, weight_RN: Tensor, theta_P: Tensor):
        super().__init__(recipe, weight_RN, theta_P)
        if recipe.optimizer != "adam":
            raise UserError("WithoutScaleResponse is for runs with Adam")
        self.rule = SharedScale()
        self.state = (self.shift_RP, self.shift_RP[:1])


class SharedScale(Adam):
    """Adam whose second moment is that of the first member."""

    def direction(self, gradient: Tensor, state: State, count: int) -> tuple[Tensor, State]:
        """Return u [R P], and the moments after the step, [R P] and [1 P]."""
        m_RP = BETA1 * state[0] + (1 - BETA1) * gradient
        moments = m_RP, BETA2 * state[1] + (1 - BETA2) * gradient[:1] ** 2
        return m_RP / (1 - BETA1**count) / self.scale(moments, count), moments


class WithoutMoments(WithoutScaleResponse):
    """Neither moment: the removal meets plain gradient descent of the base run's mean rate.

    That rate is η GᵀD⁻¹G/GᵀG with D = √v̂ + ε: a step of it goes as far along G as Adam's scaling.
    """

    def __init__(self, recipe: Recipe, weight_RN: Tensor, theta_P: Tensor):
        super().__init__(recipe, weight_RN, theta_P)
        self.rule = MeanRate()


class MeanRate(SharedScale):
    """Adam for the first member; all others differ from it by gradient descent of its mean rate."""

    def direction(self, gradient: Tensor, state: State, count: int) -> tuple[Tensor, State]:
        """Return u [R P], and the moments of the first member after the step."""
        base_1P = gradient[:1]
        u_1P, moments = super().direction(base_1P, (state[0][:1], state[1]), count)
        rate = mean_rate(base_1P, self.scale(moments, count))
        return u_1P + rate * (gradient - base_1P), moments


ABLATIONS: dict[str, type[Linearised]] = {
    "curvature": WithoutCurvature,
    "weight decay": WithoutDecay,
    "Adam's scale response": WithoutScaleResponse,
    "Adam's moments": WithoutMoments,
}
