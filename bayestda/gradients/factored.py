"""Per-example gradients in the form in which their inner products are cheapest.

A gradient with respect to a linear layer's weight is the outer product of the layer's input
(activation) a and of the output's cotangent δ, so that ⟨δ aᵀ, δ' a'ᵀ⟩ = (a·a')(δ·δ'): an inner
product over I + O numbers and not I · O. With one position per example the factors are kept
(91 % of the CNN's parameters). With many positions, as in a convolution, the gradient Σ_t δ_t a_tᵀ
is formed: products of its factors would run over all pairs of positions.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from bayestda.gradients.shards import Scratch


@dataclass(frozen=True)
class Factored:
    """Gradients δ aᵀ [B L O I] by their factors: ``activation`` [B I], ``delta`` [B L O].

    With ``bias`` the last input is a constant 1, whose weights are the layer's bias.
    """

    activation: Tensor
    delta: Tensor
    bias: bool = False

    def inner(self, other: Any) -> Tensor:
        """Return inner products [A L B L'] with the same layer's gradients of other examples."""
        if isinstance(other, Formed):
            return Formed(self.formed()).inner(other)
        # ⟨δ aᵀ, δ' a'ᵀ⟩ = (δ·δ')(a·a').
        return (
            _contract(self.delta, other.delta)
            * (self.activation @ other.activation.T)[:, None, :, None]
        )

    @property
    def size(self) -> int:
        """The number of parameters p."""
        return self.delta.shape[-1] * self.activation.shape[-1]

    def squared_norms(self) -> Tensor:
        """Return squared norms [B L]."""
        return self.delta.square().sum(-1) * self.activation.square().sum(-1)[:, None]

    def formed(self) -> Tensor:
        """Return the gradients [B L p]: weights [O I] flattened, then the bias."""
        size = self.activation.shape[1] - self.bias
        weight = torch.einsum("blo,bi->bloi", self.delta, self.activation[:, :size]).flatten(2)
        return torch.cat([weight, self.delta], dim=-1) if self.bias else weight

    def weighted(self, weight_BL: Tensor) -> Tensor:
        """Return the weighted sum of all gradients [p], of which none is formed."""
        size = self.activation.shape[1] - self.bias
        delta_BO = torch.einsum("bl,blo->bo", weight_BL, self.delta)
        weight = (delta_BO.T @ self.activation[:, :size]).flatten()
        return torch.cat([weight, delta_BO.sum(0)]) if self.bias else weight

    def __len__(self) -> int:
        return len(self.delta)

    @property
    def width(self) -> int:
        """The number of gradients per example, L."""
        return self.delta.shape[1]

    def take(self, chosen: slice) -> "Factored":
        """Return some of the examples."""
        return Factored(self.activation[chosen], self.delta[chosen], self.bias)

    def joined(self, others: list[Any]) -> "Factored | Formed":
        """Return these examples and others."""
        blocks = [self, *others]
        if any(isinstance(block, Formed) for block in others):
            return Formed(torch.cat([block.formed() for block in blocks]))
        activation = torch.cat([block.activation for block in blocks])
        return Factored(activation, torch.cat([block.delta for block in blocks]), self.bias)

    def nbytes(self) -> int:
        """Return the memory of both factors."""
        return self.activation.nbytes + self.delta.nbytes


@dataclass(frozen=True)
class Formed:
    """Gradients [B L p], formed."""

    values: Tensor

    def inner(self, other: Any) -> Tensor:
        """Return inner products [A L B L']."""
        return _contract(self.values, other.formed())

    @property
    def size(self) -> int:
        """The number of parameters p."""
        return self.values.shape[-1]

    def squared_norms(self) -> Tensor:
        """Return squared norms [B L]."""
        return self.values.square().sum(-1)

    def formed(self) -> Tensor:
        """Return the gradients [B L p]."""
        return self.values

    def weighted(self, weight_BL: Tensor) -> Tensor:
        """Return the weighted sum of all gradients [p]."""
        return torch.einsum("bl,blp->p", weight_BL, self.values)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        """The number of gradients per example, L."""
        return self.values.shape[1]

    def take(self, chosen: slice) -> "Formed":
        """Return some of the examples."""
        return Formed(self.values[chosen])

    def joined(self, others: list[Any]) -> "Formed":
        """Return these examples and others."""
        return Formed(torch.cat([self.values, *(block.formed() for block in others)]))

    def nbytes(self) -> int:
        """Return the memory of the gradients."""
        return self.values.nbytes


# Examples in a block at most: the graph of a block is in memory while its rows are captured, beside
# the rows that are counted.
MAX_BLOCK = 64

Rows = dict[str, Factored | Formed]  # by layer: L gradients of each of B examples


def inner(left: Rows, right: Rows) -> Tensor:
    """Return inner products [A L B L'] over all layers."""
    return reduce(torch.add, (left[name].inner(right[name]) for name in left))


def squared_norms(rows: Rows) -> Tensor:
    """Return squared norms [B L] over all layers."""
    return reduce(torch.add, (block.squared_norms() for block in rows.values()))


def joined(parts: list[Rows]) -> Rows:
    """Return the rows of the examples of all parts."""
    first, *others = parts
    if not others:
        return first
    return {name: block.joined([part[name] for part in others]) for name, block in first.items()}


class RowBlocks:
    """Rows of many examples, captured block by block, kept in memory or on disk, or made again.

    Args:
        capture: A function that makes the rows of a slice of the examples.
        num_examples: The number of examples.
        memory_bytes: The memory that all blocks together may take; changes only the speed.
        scratch: Temporary files for rows that do not fit; None: they are captured again.
        pass_bytes: What making the rows of an example takes beside them: its activations, its
            outputs and their cotangents.
    """

    def __init__(
        self,
        capture: Callable[[slice], Rows],
        num_examples: int,
        memory_bytes: float,
        scratch: Scratch | None = None,
        pass_bytes: float = 0,
    ):
        self._capture, self.num_examples = capture, num_examples
        first = capture(slice(0, 1))
        self.bytes_each = sum(block.nbytes() for block in first.values())
        # A single block takes a quarter at most. All of them are kept if they take a half at most.
        room = int(memory_bytes / 4 / max(self.bytes_each, pass_bytes))
        self.block = max(1, min(num_examples, MAX_BLOCK, room))
        self._keep = self.bytes_each * num_examples <= memory_bytes / 2
        self._kept: dict[int, Rows] = {}
        self._squared_BL: dict[int, Tensor] = {}
        self._scratch = scratch
        self._name = scratch.name() if scratch else ""

    def __iter__(self) -> Iterator[tuple[slice, Rows]]:
        return self.within(slice(0, self.num_examples))

    def within(self, at: slice, again: bool = True) -> Iterator[tuple[slice, Rows]]:
        """Yield blocks that have some of these examples; the last time they are not written."""
        for chosen in self.spans(at):
            yield chosen, self._rows(chosen, again)

    def spans(self, at: slice) -> Iterator[slice]:
        """Yield the examples that those blocks have."""
        for start in range(at.start // self.block * self.block, at.stop, self.block):
            yield slice(start, min(start + self.block, self.num_examples))

    def _rows(self, chosen: slice, again: bool) -> Rows:
        if chosen.start in self._kept:
            return self._kept[chosen.start]
        if self._scratch and not self._keep:
            name = f"{self._name}-{chosen.start}"
            if again or self._scratch.has(name):
                made = self._scratch.tensors(name, lambda: _packed(self._captured(chosen)))
                return _unpacked(made)
        rows = self._captured(chosen)
        if self._keep:
            self._kept[chosen.start] = rows
        return rows

    def _captured(self, chosen: slice) -> Rows:
        rows = self._capture(chosen)
        self._squared_BL[chosen.start] = squared_norms(rows)
        return rows

    def norms(self, at: slice) -> Tensor:
        """Return norms [n L] of some examples; rows that have been made are not made again."""
        spans = list(self.spans(at))
        for chosen in spans:
            if chosen.start not in self._squared_BL:
                self._captured(chosen)
        squared_nL = torch.cat([self._squared_BL[chosen.start] for chosen in spans])
        first = spans[0].start
        return squared_nL[at.start - first : at.stop - first].sqrt()


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
