"""Grad-Dot: alignment of a training example's gradient with a test example's."""

from bayestda.gradients.blocks import Blocks, by_blocks, products
from bayestda.gradients.sample import SampleGradients


@by_blocks
def grad_dot(gradients: SampleGradients) -> Blocks:
    r"""Scores [N M]: :math:`\nabla L(z)^\top \nabla L(z_j)`; positive = helpful.

    A small gradient step on z_j lowers the loss on z by this much times the learning rate
    (Charpiat et al. 2019). N + M gradients and one matrix product.
    """
    return products(gradients)
