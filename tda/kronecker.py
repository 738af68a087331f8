"""Gradients of layers in the eigenvectors of Kronecker factors, where EK-FAC is diagonal."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tda.gradients import SampleGradients, parts
from tda.rows import Factored, Formed
from tda.scratch import empty


@dataclass(frozen=True)
class Basis:
    """A layer's eigenvectors, and numbers in their directions.

    Attributes:
        input_II: of the inputs' covariance; a constant 1 is the last input of a layer with bias,
            the inputs of a convolution are those of its weight [O, C h w].
        output_OO: of the output gradients' covariance.
        values_OI: what to multiply a gradient's coordinates [O I] with.
    """

    input_II: Tensor
    output_OO: Tensor
    values_OI: Tensor

    def coordinates(self, layer: torch.nn.Module, block: Factored | Formed) -> Tensor:
        """Gradients with L = 1 in these eigenvectors [B O·I]; factors are turned, then formed."""
        if isinstance(block, Factored):
            turned = Factored(block.activation @ self.input_II, block.delta @ self.output_OO)
            return turned.formed()[:, 0]
        named = parts(layer, block.formed()[:, 0])
        matrix_BOI = named["weight"].flatten(2)
        if "bias" in named:
            matrix_BOI = torch.cat([matrix_BOI, named["bias"][..., None]], dim=-1)
        return (self.output_OO.T @ matrix_BOI @ self.input_II).flatten(1)


def diagonal_bilinear(gradients: SampleGradients, bases: Mapping[str, Basis]) -> Tensor:
    """∇L(z_j)ᵀ Q diag(values) Qᵀ ∇g(z) for all pairs [N M], float64; Q of all layers.

    A block of test examples at a time, so that nothing of size M·P is kept.

    Args:
        gradients: of one sample of θ.
        bases: of every layer of its rows.
    """
    network, sizes = gradients.network, (len(gradients.train_data), len(gradients.test_data))
    like = gradients.theta_P.new_zeros(1, dtype=torch.float64)
    scores_NM = empty(sizes, like, gradients.scratch, gradients.memory_bytes / 6)
    for where, test in gradients.test:
        weighted = {
            name: basis.coordinates(network.get_submodule(name), test[name])
            * basis.values_OI.flatten()
            for name, basis in bases.items()
        }
        for chosen, train in gradients.train:
            scores_NM[chosen, where] = sum(
                (
                    basis.coordinates(network.get_submodule(name), train[name]) @ weighted[name].T
                ).double()
                for name, basis in bases.items()
            )
    return scores_NM
