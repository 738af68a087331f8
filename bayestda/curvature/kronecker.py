"""Kronecker factors of layers' curvature, and gradients in their eigenvectors.

A plain layer's gradient is Σ_t δ_t a_tᵀ over positions t, with inputs a (the last one a constant 1
whose weights are the bias) and cotangents δ of its output. K-FAC takes its curvature as the
Kronecker product of A = E[a aᵀ] and B = E[δ δᵀ] (Martens & Grosse 2015). EK-FAC keeps the
eigenvectors of both and replaces the eigenvalues by the curvature's own diagonal there.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from bayestda.curvature.filters import Filter
from bayestda.gradients.blocks import FORMED, PREPARED, Blocks, chunks, partners
from bayestda.gradients.factored import MAX_BLOCK, Factored, Formed, Rows
from bayestda.gradients.hooks import Cotangents, factors
from bayestda.gradients.layers import trained
from bayestda.gradients.sample import SampleGradients, finite
from bayestda.model.objective import Objective

Pulled = Callable[[Objective, Tensor], Cotangents]  # cotangents of examples with these targets
Factors = list[tuple[str, Tensor, Tensor]]  # of each call: layer, a [B T I], δ [B L T O]


class FactorBlocks:
    """Inputs and cotangents of plain layers on the training examples, block by block.

    They are kept for a second pass where they fit into a quarter of the memory.

    Args:
        gradients: The gradients of one sample of θ.
        layers: The plain layers, by name.
        pulled: Which vectors to pull back, such as
            :func:`bayestda.gradients.sample.root_cotangents`.
    """

    def __init__(
        self,
        gradients: SampleGradients,
        layers: Mapping[str, nn.Module],
        pulled: Pulled,
    ):
        self._gradients, self._layers, self._pulled = gradients, layers, pulled
        self.num_examples = len(gradients.train_data)
        first = self._captured(slice(0, 1))
        bytes_each = sum(inputs.nbytes + deltas.nbytes for _, inputs, deltas in first)
        room = gradients.memory_bytes * PREPARED
        # While a block is made, its graph and copies take a few times its own size.
        self.block = max(1, min(self.num_examples, MAX_BLOCK, int(room / 4 / max(1, bytes_each))))
        self._keep = bytes_each * self.num_examples <= room
        self._kept: dict[int, Factors] = {}

    def __iter__(self) -> Iterator[Factors]:
        for start in range(0, self.num_examples, self.block):
            found = self._kept.get(start) or self._captured(slice(start, start + self.block))
            if self._keep:
                self._kept[start] = found
            yield found

    def _captured(self, chosen: slice) -> Factors:
        own = self._gradients
        batch = own.train_data.take(chosen)
        cotangents = finite(self._pulled(own.objective, batch.y), batch)
        return factors(own.network, own.objective, batch.x, cotangents, self._layers)

    def covariances(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return Σ a aᵀ [I I] and Σ δ δᵀ [O O] of each layer over all positions, float64."""
        total: dict[str, tuple[Tensor, Tensor]] = {}
        for block in self:
            for name, a_BTI, delta_BLTO in block:
                a_nI, delta_nO = a_BTI.flatten(0, 1), delta_BLTO.flatten(0, 2)
                new = (a_nI.T @ a_nI).double(), (delta_nO.T @ delta_nO).double()
                old = total.get(name)
                total[name] = (old[0] + new[0], old[1] + new[1]) if old else new
        return total


@dataclass(frozen=True)
class Basis:
    """A layer's eigenvectors, and the curvature's diagonal in them.

    Attributes:
        input_II: The eigenvectors of the inputs' covariance.
        output_OO: The eigenvectors of the output cotangents' covariance.
        values_OI: The diagonal, float64.
        bias: Whether the last input is the bias's constant 1.
    """

    input_II: Tensor
    output_OO: Tensor
    values_OI: Tensor
    bias: bool

    def coordinates(self, rows: Factored | Formed) -> Tensor:
        """Return a layer's gradients with L = 1 in these eigenvectors [B O·I]."""
        if isinstance(rows, Factored):  # factors are turned, then formed
            turned = Factored(rows.activation @ self.input_II, rows.delta @ self.output_OO)
            return turned.formed()[:, 0]
        values_Bp, (outs, ins) = rows.values[:, 0], self.values_OI.shape
        weights = outs * (ins - self.bias)  # the bias follows all weights
        matrix_BOI = values_Bp[:, :weights].unflatten(1, (outs, ins - self.bias))
        if self.bias:
            matrix_BOI = torch.cat([matrix_BOI, values_Bp[:, weights:, None]], dim=-1)
        return (self.output_OO.T @ matrix_BOI @ self.input_II).flatten(1)


def corrected(
    gradients: SampleGradients,
    layers: Mapping[str, nn.Module],
    pulled: Pulled,
) -> dict[str, Basis]:
    r"""Return the eigenvectors of each layer's A and B, with the corrected eigenvalues.

    These are :math:`s_{oi} = \frac1N \sum_j \sum_l (q_o^\top G_{jl} q_i)^2` for the vectors l that
    are pulled back on example j, G_jl their gradients [O I] (George et al. 2018, equation 3).

    Args:
        gradients, layers, pulled: As of :class:`FactorBlocks`.
    """
    blocks, like = FactorBlocks(gradients, layers, pulled), gradients.theta_P
    bases = {
        name: tuple(torch.linalg.eigh(matrix).eigenvectors.to(like) for matrix in pair)
        for name, pair in blocks.covariances().items()
    }
    room = int(gradients.memory_bytes * FORMED / like.element_size())
    total: dict[str, Tensor] = {}
    for block in blocks:
        for name, a_BTI, delta_BLTO in block:
            input_II, output_OO = bases[name]
            new_OI = _squares(a_BTI @ input_II, delta_BLTO @ output_OO, room).double()
            total[name] = total[name] + new_OI if name in total else new_OI
    return {
        name: Basis(
            input_II, output_OO, total[name] / blocks.num_examples, "bias" in trained(layers[name])
        )
        for name, (input_II, output_OO) in bases.items()
    }


def _squares(a_BTI: Tensor, delta_BLTO: Tensor, room: int) -> Tensor:
    """Squared gradients Σ_b Σ_l (Σ_t δ_t a_tᵀ)² [O I], of which ``room`` numbers are formed."""
    (_, positions, ins), (_, width, _, outs) = a_BTI.shape, delta_BLTO.shape
    if positions == 1:  # (δ a)² = δ² a²: nothing is formed
        return delta_BLTO[:, :, 0].square().sum(1).T @ a_BTI[:, 0].square()
    columns = max(1, min(width, room // (outs * ins)))
    together = max(1, room // (outs * ins * columns))
    total_OI = a_BTI.new_zeros(outs, ins)
    for some_bTI, delta_bLTO in zip(a_BTI.split(together), delta_BLTO.split(together), strict=True):
        for delta_blTO in delta_bLTO.split(columns, dim=1):
            # All vectors of an example side by side: one product without copies of its inputs.
            formed = delta_blTO.mT.flatten(1, 2) @ some_bTI
            total_OI += formed.square_().unflatten(1, (-1, outs)).sum((0, 1))
    return total_OI


def diagonal(gradients: SampleGradients, bases: Mapping[str, Basis], phi: Filter) -> Blocks:
    """Yield ∇L(z_j)ᵀ Q diag(φ(s)) Qᵀ ∇g(z), float64; Q and s are those of all layers.

    The side with fewer examples is weighted and held, the other one passes by.

    Args:
        gradients: The gradients of one sample of θ.
        bases: The bases of every layer of its rows.
        phi: The filter φ of eigenvalues.
    """
    like = gradients.theta_P
    weights = {name: phi(basis.values_OI).flatten().to(like) for name, basis in bases.items()}
    train_side = len(gradients.train_data) < len(gradients.test_data)
    sides = (gradients.train, gradients.test)
    few, others = sides if train_side else sides[::-1]
    # Rows, their coordinates, and both of the other side's block.
    for at, own in chunks(gradients, few, 4 * gradients.layout.count * like.element_size()):
        # Coordinates are new tensors, which may be weighted in place.
        weighted = {name: own_np.mul_(weights[name]) for name, own_np in _coordinates(bases, own)}
        for across, rows in partners(gradients, others, at):
            products = (
                (weighted[name] @ other_bp.T).double()
                for name, other_bp in _coordinates(bases, rows)
            )
            block = reduce(torch.add, products)
            yield (at, across, block) if train_side else (across, at, block.T)


def _coordinates(bases: Mapping[str, Basis], rows: Rows) -> Iterator[tuple[str, Tensor]]:
    """Gradients of each layer in its eigenvectors [B p]."""
    for name, basis in bases.items():
        yield name, basis.coordinates(rows[name])
