"""Gradients of layers in the eigenvectors of Kronecker factors, where EK-FAC is diagonal."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bayestda.gradients.blocks import Blocks, chunks, partners
from bayestda.gradients.factored import Factored, Rows
from bayestda.gradients.layers import parts
from bayestda.gradients.sample import SampleGradients


@dataclass(frozen=True)
class Basis:
    """A layer's eigenvectors, and numbers in their directions.

    Attributes:
        input_II: Eigenvectors of the inputs' covariance. A constant 1 is the last input of a layer
            with bias. The inputs of a convolution are those of its weight [O, C h w].
        output_OO: Eigenvectors of the output gradients' covariance.
        values_OI: Numbers to multiply a gradient's coordinates [O I] with.
    """

    input_II: Tensor
    output_OO: Tensor
    values_OI: Tensor

    def coordinates(self, layer: torch.nn.Module, name: str, rows: Rows) -> Tensor:
        """Return a layer's gradients with L = 1 in these eigenvectors [B O·I]."""
        block = rows.get(name)
        if isinstance(block, Factored):  # factors are turned, then formed
            turned = Factored(block.activation @ self.input_II, block.delta @ self.output_OO)
            return turned.formed()[:, 0]
        if block is not None:
            named = parts(layer, block.formed()[:, 0])
        else:  # by vmap: each parameter for itself
            named = {
                own: rows[f"{name}.{own}"].formed()[:, 0].unflatten(1, value.shape)
                for own, value in layer.named_parameters()
            }
        matrix_BOI = named["weight"].flatten(2)
        if "bias" in named:
            matrix_BOI = torch.cat([matrix_BOI, named["bias"][..., None]], dim=-1)
        return (self.output_OO.T @ matrix_BOI @ self.input_II).flatten(1)


def diagonal(gradients: SampleGradients, bases: Mapping[str, Basis]) -> Blocks:
    """Yield ∇L(z_j)ᵀ Q diag(values) Qᵀ ∇g(z), float64, with Q of all layers.

    Args:
        gradients: Gradients of one sample of θ.
        bases: Eigenvectors of every layer of its rows.
    """
    each = 4 * gradients.layout.count * gradients.theta_P.element_size()
    for columns, test in chunks(gradients, gradients.test, each):
        weighted = {
            name: at_mp * bases[name].values_OI.flatten()
            for name, at_mp in _coordinates(gradients, bases, test).items()
        }
        for rows, train in partners(gradients, gradients.train, columns):
            products = [
                (at_np @ weighted[name].T).double()
                for name, at_np in _coordinates(gradients, bases, train).items()
            ]
            yield rows, columns, torch.stack(products).sum(0)


def _coordinates(
    gradients: SampleGradients, bases: Mapping[str, Basis], rows: Rows
) -> dict[str, Tensor]:
    """Return gradients of each layer in its eigenvectors [B p]."""
    network = gradients.network
    return {
        name: basis.coordinates(network.get_submodule(name), name, rows)
        for name, basis in bases.items()
    }
