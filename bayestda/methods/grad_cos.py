"""Grad-Cos: cosine between a training example's gradient and a test example's."""

from bayestda.gradients.blocks import Blocks, by_blocks, products
from bayestda.gradients.sample import SampleGradients


@by_blocks
def grad_cos(gradients: SampleGradients) -> Blocks:
    r"""Scores [N M] in −1…1: Grad-Dot divided by both norms; positive = helpful.

    Charpiat et al. 2019. A gradient of norm 0 has cosine 0 with everything.
    """
    for rows, columns, block in products(gradients):
        norms_nm = gradients.train.norms(rows) * gradients.test.norms(columns)[:, 0]
        yield rows, columns, block / norms_nm.clamp(min=norms_nm.new_tensor(1e-38))
