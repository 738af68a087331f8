"""Influence functions by conjugate gradients: nothing of size P² or (N·K)² is formed."""

import torch

from bayestda.curvature.conjugate_gradients import conjugate_gradients
from bayestda.curvature.gauss_newton import training_products
from bayestda.gradients.blocks import Blocks, by_blocks, chunks, formed, partners
from bayestda.gradients.sample import SampleGradients


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
    2010; Koh and Liang 2017, section 3), as many together as memory has room for, 8 P numbers
    each. A step is a product of C with as many vectors as are unsolved; steps grow with the root of
    the condition number (s_max + λ)/λ that is left when the largest eigenvalues have been found.

    Args:
        gradients: Gradients of one sample of θ.
        damping: The ridge λ. With the Hessian it must exceed minus its lowest eigenvalue.
        curvature: Matrix C, ``gauss_newton`` or ``hessian``.
        tolerance: Relative residual at which a vector is solved.
        max_steps: Most steps of a block of vectors.

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
