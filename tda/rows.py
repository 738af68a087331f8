"""Per-example gradients in the form in which their inner products are cheapest.

A gradient with respect to a linear layer's weight is the outer product of the layer's input
(activation) a and of the output's cotangent δ, so that ⟨δ aᵀ, δ' a'ᵀ⟩ = (a·a')(δ·δ'): an inner
product over I + O numbers and not I · O. With one position per example the factors are kept
(91 % of the CNN's parameters); with many positions, as in a convolution, the gradient Σ_t δ_t a_tᵀ
is formed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from tda.scratch import Scratch, empty


@dataclass(frozen=True)
class Factored:
    """Gradients δ aᵀ [B L O I] by their factors: ``activation`` [B I], ``delta`` [B L O].

    With ``bias`` the last input is a constant 1, whose weights are the layer's bias.
    """

    activation: Tensor
    delta: Tensor
    bias: bool = False

    def inner(self, other: Any) -> Tensor:
        """Inner products [A L B L'] with the same layer's gradients of other examples."""
        return (
            _contract(self.delta, other.delta)
            * (self.activation @ other.activation.T)[:, None, :, None]
        )

    @property
    def size(self) -> int:
        """Number of parameters p."""
        return self.delta.shape[-1] * self.activation.shape[-1]

    def squared_norms(self) -> Tensor:
        """Squared norms [B L]."""
        return self.delta.square().sum(-1) * self.activation.square().sum(-1)[:, None]

    def formed(self) -> Tensor:
        """The gradients [B L p]: weights [O I] flattened, then the bias."""
        size = self.activation.shape[1] - self.bias
        weight = torch.einsum("blo,bi->bloi", self.delta, self.activation[:, :size]).flatten(2)
        return torch.cat([weight, self.delta], dim=-1) if self.bias else weight

    def nbytes(self) -> int:
        """Memory of both factors."""
        return self.activation.nbytes + self.delta.nbytes


@dataclass(frozen=True)
class Formed:
    """Gradients [B L p] as they are."""

    values: Tensor

    def inner(self, other: Any) -> Tensor:
        """Inner products [A L B L']."""
        return _contract(self.values, other.values)

    @property
    def size(self) -> int:
        """Number of parameters p."""
        return self.values.shape[-1]

    def squared_norms(self) -> Tensor:
        """Squared norms [B L]."""
        return self.values.square().sum(-1)

    def formed(self) -> Tensor:
        """The gradients [B L p]."""
        return self.values

    def nbytes(self) -> int:
        """Memory of the gradients."""
        return self.values.nbytes


MAX_BLOCK = 64  # examples

Rows = dict[str, Factored | Formed]  # by layer: L gradients of each of B examples


def inner(left: Rows, right: Rows) -> Tensor:
    """Inner products [A L B L'] over all layers."""
    return reduce(torch.add, (left[name].inner(right[name]) for name in left))


def squared_norms(rows: Rows) -> Tensor:
    """Squared norms [B L] over all layers."""
    return reduce(torch.add, (block.squared_norms() for block in rows.values()))


class RowBlocks:
    """Rows of many examples, captured block by block, kept in memory or on disk, or made again.

    Args:
        capture: makes the rows of a slice of the examples.
        num_examples: how many there are.
        memory_bytes: what all blocks together may take; changes only the speed.
        scratch: where shards of rows are kept that do not fit; None: they are captured again.
    """

    def __init__(
        self,
        capture: Callable[[slice], Rows],
        num_examples: int,
        memory_bytes: float,
        scratch: Scratch | None = None,
    ):
        self._capture, self.num_examples = capture, num_examples
        first = capture(slice(0, 1))
        self._like = squared_norms(first)  # [1 L]
        per_example = sum(block.nbytes() for block in first.values())
        self.block = max(1, min(num_examples, MAX_BLOCK, int(memory_bytes / 4 / per_example)))
        self._keep = per_example * num_examples <= memory_bytes / 2
        self._kept: dict[int, Rows] = {}
        self._memory_bytes, self._scratch = memory_bytes, scratch
        self._name = scratch.name() if scratch else ""

    def __iter__(self) -> Iterator[tuple[slice, Rows]]:
        for start in range(0, self.num_examples, self.block):
            chosen = slice(start, min(start + self.block, self.num_examples))
            yield chosen, self._rows(chosen)

    def _rows(self, chosen: slice) -> Rows:
        if chosen.start in self._kept:
            return self._kept[chosen.start]
        if self._scratch and not self._keep:
            name = f"{self._name}-{chosen.start}"
            return _unpacked(self._scratch.tensors(name, lambda: _packed(self._capture(chosen))))
        rows = self._capture(chosen)
        if self._keep:
            self._kept[chosen.start] = rows
        return rows

    def inner(self, other: "RowBlocks") -> Tensor:
        """Inner products [A L B L'] of all examples with all of the other's."""
        symmetric, result = other is self, self._array(other)
        for chosen, left in self:
            for at, right in other:
                mirrored = symmetric and at.start < chosen.start
                result[chosen, :, at] = (
                    result[at, :, chosen].permute(2, 3, 0, 1) if mirrored else inner(left, right)
                )
        return result

    def norms(self) -> Tensor:
        """Norms [B L]."""
        return torch.cat([squared_norms(rows) for _, rows in self]).sqrt()

    def _array(self, other: "RowBlocks") -> Tensor:
        """Where inner products go."""
        sizes = (self.num_examples, self._like.shape[1], other.num_examples, other._like.shape[1])
        return empty(sizes, self._like, self._scratch, self._memory_bytes / 2)


def _packed(rows: Rows) -> dict[str, Tensor]:
    """Rows as named tensors."""
    packed = {}
    for name, block in rows.items():
        if isinstance(block, Formed):
            packed[f"formed|values|{name}"] = block.values
        else:
            kind = "biased" if block.bias else "factored"
            packed[f"{kind}|activation|{name}"] = block.activation
            packed[f"{kind}|delta|{name}"] = block.delta
    return packed


def _unpacked(packed: dict[str, Tensor]) -> Rows:
    parts: dict[str, dict[str, Any]] = {}
    for key, tensor in packed.items():
        kind, part, name = key.split("|", 2)
        parts.setdefault(name, {"kind": kind})[part] = tensor
    return {
        name: Formed(found["values"])
        if found["kind"] == "formed"
        else Factored(found["activation"], found["delta"], found["kind"] == "biased")
        for name, found in parts.items()
    }


def _contract(left_ALp: Tensor, right_BLp: Tensor) -> Tensor:
    """Inner products [A L B L'] as one matrix product."""
    product = left_ALp.flatten(0, 1) @ right_BLp.flatten(0, 1).T
    return product.unflatten(0, left_ALp.shape[:2]).unflatten(2, right_BLp.shape[:2])
