"""Grad-Cos: cosine between a training example's gradient and a test example's."""

from torch import Tensor

from tda.gradients import SampleGradients


def grad_cos(gradients: SampleGradients) -> Tensor:
    r"""Scores [N M] in −1…1: Grad-Dot divided by both norms; positive = helpful.

    Charpiat et al. 2019. A gradient of norm 0 has cosine 0 with everything.
    """
    norms_NM = gradients.train.norms() * gradients.test.norms()[:, 0]
    return gradients.products_NM / norms_NM.clamp(min=norms_NM.new_tensor(1e-38))
