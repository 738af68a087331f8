"""TracIn: Grad-Dot summed over the checkpoints of a run, weighted by learning rates."""

from bayestda.gradients.blocks import Blocks, by_blocks, products
from bayestda.gradients.sample import SampleGradients


@by_blocks
def tracin(gradients: SampleGradients, rate: float) -> Blocks:
    r"""One checkpoint's part [N M] of :math:`\sum_c \eta_c \nabla g(z)^\top \nabla L(z_j)`.

    Positive = helpful (Pruthi et al. 2020, TracInCP, section 3.2). N + M gradients a checkpoint.

    Args:
        gradients: Gradients of one checkpoint.
        rate: Rate η_c, the training's learning rate there.
    """
    for rows, columns, block in products(gradients):
        yield rows, columns, block * rate
