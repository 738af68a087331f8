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
    """Keep the base run's outputs: this is Grad-Dot along the run, through the optimiser."""

    def changes(self, rows_kP: Tensor) -> Tensor:
        """Return zeros: no output changes."""
        return self.shift_RP.new_zeros(len(self.shift_RP), len(rows_kP))


class WithoutDecay(Linearised):
    """Let weight decay act on the base run's parameters alone."""

    def decaying(self, theta_P: Tensor) -> Tensor:
        """Return the base run's parameters, for all members."""
        return theta_P.expand_as(self.shift_RP)


class WithoutScaleResponse(Linearised):
    """Keep Adam's step sizes of the base run, as a fixed preconditioner of each step."""

    def __init__(self, recipe: Recipe, weight_RN: Tensor, theta_P: Tensor):
        super().__init__(recipe, weight_RN, theta_P)
        if recipe.optimizer != "adam":
            raise UserError(
                f"{type(self).__name__} needs runs with optimizer='adam', not "
                f"{recipe.optimizer!r}: train the posterior with Adam"
            )
        self.rule = SharedScale()
        # One first moment for each member, and a single second moment.
        self.state = (self.shift_RP, self.shift_RP[:1])


class SharedScale(Adam):
    """Take steps of Adam with the first member's second moment for all members."""

    def direction(self, gradient: Tensor, state: State, count: int) -> tuple[Tensor, State]:
        """Return u [R P], and the moments after the step, [R P] and [1 P]."""
        m_RP = BETA1 * state[0] + (1 - BETA1) * gradient
        moments = m_RP, BETA2 * state[1] + (1 - BETA2) * gradient[:1] ** 2
        return m_RP / (1 - BETA1**count) / self.scale(moments, count), moments


class WithoutMoments(WithoutScaleResponse):
    """Follow the removal by plain gradient descent, at the base run's mean rate.

    That rate is η GᵀD⁻¹G/GᵀG with D = √v̂ + ε: a plain step goes as far along G as a scaled one.
    """

    def __init__(self, recipe: Recipe, weight_RN: Tensor, theta_P: Tensor):
        super().__init__(recipe, weight_RN, theta_P)
        self.rule = MeanRate()


class MeanRate(SharedScale):
    """Take Adam's steps for the first member, and plain steps for the others' differences."""

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
