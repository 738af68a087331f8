"""Influence functions by conjugate gradients: nothing of size P² or (N·K)² is formed."""

import torch
from torch import Tensor

from tda.curvature import training_products
from tda.errors import UserError
from tda.gradients import SampleGradients
from tda.products import Products
from tda.streams import Blocks, by_blocks, chunks, formed, partners


@by_blocks
def cg_influence(
    gradients: SampleGradients,
    damping: float,
    *,
    curvature: str = "gauss_newton",
    tolerance: float = 1e-5,
    max_steps: int = 500,
) -> Blocks:
    r"""Scores [N M]: :math:`\nabla g(z)^\top (C + \lambda I)^{-1} \nabla L(z_j)`; + = helpful.

    Solved for the test gradients or, where there are fewer, for the training gradients (Martens
    2010; Koh and Liang 2017, section 3). Each step is a product of C with every unsolved vector;
    steps grow with the root of the condition number (s_max + λ)/λ. A vector takes 4 P
    numbers; as many are solved together as memory has room for.

    Args:
        gradients: of one sample of θ.
        damping: λ; with the Hessian it must exceed minus its lowest eigenvalue.
        curvature: ``gauss_newton`` or ``hessian``.
        tolerance: relative residual at which a vector is solved.
        max_steps: of each vector.

    Raises:
        UserError: not solved after ``max_steps``, or the matrix is not positive definite.
    """
    products = training_products(gradients, curvature)
    train_side = len(gradients.train_data) < len(gradients.test_data)
    sides = (gradients.train, gradients.test)
    solved_side, others = sides if train_side else sides[::-1]
    each = 8 * gradients.layout.count * gradients.theta_P.element_size()
    for at, right in chunks(gradients, solved_side, each):
        right_VP = gradients.vectors(right)[:, 0]
        solved_VP = conjugate_gradients(
            lambda v: products(v) + damping * v, right_VP, tolerance, max_steps
        )
        for other, rows in partners(gradients, others, at):
            block = torch.cat([part[:, 0] @ solved_VP.T for part in formed(gradients, rows)])
            yield (at, other, block.T) if train_side else (other, at, block)


def conjugate_gradients(
    products: Products, right_VP: Tensor, tolerance: float, max_steps: int
) -> Tensor:
    """Solutions [V P] of A x = b for V right sides, each with its own step lengths.

    Raises:
        UserError: as :func:`cg_influence`.
    """
    solution_VP = torch.zeros_like(right_VP)
    residual_VP, direction_VP = right_VP.clone(), right_VP.clone()
    square_V = residual_VP.square().sum(1)
    enough_V = square_V * tolerance**2
    for _ in range(max_steps):
        active = square_V > enough_V
        if not active.any():
            return solution_VP
        direction_AP = direction_VP[active]
        product_AP = products(direction_AP)
        curvature_A = (direction_AP * product_AP).sum(1)
        if (curvature_A <= 0).any():
            raise UserError(
                "the damped curvature is not positive definite: raise the damping, or use the "
                "Gauss-Newton matrix"
            )
        length_A1 = (square_V[active] / curvature_A)[:, None]
        solution_VP[active] += length_A1 * direction_AP
        residual_VP[active] -= length_A1 * product_AP
        new_A = residual_VP[active].square().sum(1)
        ratio_A1 = (new_A / square_V[active])[:, None]
        direction_VP[active] = residual_VP[active] + ratio_A1 * direction_AP
        square_V[active] = new_A
    raise UserError(
        f"conjugate gradients have not converged after {max_steps} steps: raise the damping, the "
        "tolerance or max_steps"
    )
