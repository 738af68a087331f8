"""Scores block by block, so that neither gradients nor scores have to fit into memory.

A method yields blocks: some training rows, some test columns, their scores. The test side is
prepared once, for as many examples as memory has room for. Training gradients then pass by, a block
at a time. Time grows as N · M, memory does not.
"""

from collections.abc import Callable, Iterator
from functools import update_wrapper
from typing import Concatenate, Generic, ParamSpec

import torch
from torch import Tensor

from bayestda.errors import UserError
from bayestda.gradients.factored import RowBlocks, Rows, inner, joined
from bayestda.gradients.sample import SampleGradients

Block = tuple[slice, slice, Tensor]  # training rows, test columns, their scores
Blocks = Iterator[Block]
Own = ParamSpec("Own")

# Shares of memory. RowBlocks of both sides and the Jacobian keep up to a sixth each, together a
# half. What is prepared of one side has a quarter, formed gradients of the other have an eighth.
PREPARED, FORMED = 1 / 4, 1 / 8
SMALL = 2**26  # bytes; less is never refused, as an interpreter with torch takes more


class by_blocks(Generic[Own]):
    """Decorator: makes a method that yields blocks callable as a function of all scores [N M].

    Attributes:
        blocks: The undecorated generator.
    """

    def __init__(self, blocks: Callable[Concatenate[SampleGradients, Own], Blocks]):
        self.blocks = blocks
        update_wrapper(self, blocks)

    def __call__(
        self, gradients: SampleGradients, *args: Own.args, **settings: Own.kwargs
    ) -> Tensor:
        """Return all scores [N M]."""
        size = (len(gradients.train_data), len(gradients.test_data))
        return collected(self.blocks(gradients, *args, **settings), size)


def collected(blocks: Blocks, size: tuple[int, int]) -> Tensor:
    """Join blocks to scores [N M]; a single block that covers all of them is not copied."""
    scores_NM: Tensor | None = None
    for rows, columns, block in blocks:
        if tuple(block.shape) == size:
            return block
        if scores_NM is None:
            scores_NM = block.new_empty(size)
        scores_NM[rows, columns] = block
    assert scores_NM is not None
    return scores_NM


def products(gradients: SampleGradients) -> Blocks:
    """Yield ∇L(z_j)ᵀ∇g(z); kept for other methods where they take an eighth of memory or less."""
    size = (len(gradients.train_data), len(gradients.test_data))
    few = size[0] * size[1] * gradients.theta_P.element_size() <= gradients.memory_bytes / 8
    if gradients.own or not few:
        yield from _products(gradients)
        return
    if "products" not in gradients.kept:
        gradients.kept["products"] = collected(_products(gradients), size)
    yield slice(0, size[0]), slice(0, size[1]), gradients.kept["products"]


def _products(gradients: SampleGradients) -> Blocks:
    # A test example's rows, once in their blocks and once joined, and its products with a block of
    # the training side, of which inner() holds a few at a time.
    element = gradients.theta_P.element_size()
    each = 2 * gradients.test.bytes_each + 4 * gradients.train.block * element
    for columns, test in chunks(gradients, gradients.test, each):
        for rows, train in partners(gradients, gradients.train, columns):
            yield rows, columns, inner(train, test)[:, 0, :, 0]


def between(gradients: SampleGradients, conditioned: Callable[[Tensor], Tensor]) -> Blocks:
    """Yield ∇L(z_j)ᵀ F ∇g(z), in the precision that F gives.

    Args:
        gradients: The gradients of one sample of θ.
        conditioned: Products of the symmetric F with vectors, from [P v] in float64 to [P v]; they
            are the training or the test gradients, whichever are fewer.
    """
    train_side = len(gradients.train_data) < len(gradients.test_data)
    sides = (gradients.train, gradients.test)
    few, others = sides if train_side else sides[::-1]
    # Room for six float64 vectors an example: its gradient, the product, and F's temporaries.
    for at, own in chunks(gradients, few, 6 * 8 * gradients.layout.count):
        conditioned_Pv = conditioned(gradients.vectors(own)[:, 0].double().T)
        for across, rows in partners(gradients, others, at):
            vectors = formed(gradients, rows)
            products = [part_bLP[:, 0].to(conditioned_Pv) @ conditioned_Pv for part_bLP in vectors]
            block = torch.cat(products)
            yield (at, across, block.T) if train_side else (across, at, block)


def chunks(
    gradients: SampleGradients, blocks: RowBlocks, bytes_each: float
) -> Iterator[tuple[slice, Rows]]:
    """Yield rows of several blocks at once: as many as their share of memory has room for.

    Args:
        gradients: The gradients of one sample of θ; with ``own``, a block is a chunk.
        blocks: The blocks of the side that is prepared.
        bytes_each: The memory that preparing one example takes.
    """
    room = max(1, int(gradients.memory_bytes * PREPARED / bytes_each))
    if room < blocks.block:  # a block is cut up
        for chosen, rows in blocks:
            for start in range(chosen.start, chosen.stop, room):
                part = slice(start, min(start + room, chosen.stop))
                yield part, taken(rows, slice(start - chosen.start, part.stop - chosen.start))
        return
    # Whole blocks are joined; each is then captured once.
    length = blocks.block * (1 if gradients.own else room // blocks.block)
    for start in range(0, blocks.num_examples, length):
        whole = slice(start, min(start + length, blocks.num_examples))
        yield whole, joined([rows for _, rows in blocks.within(whole)])


def partners(
    gradients: SampleGradients, blocks: RowBlocks, at: slice
) -> Iterator[tuple[slice, Rows]]:
    """Yield blocks of the other side: all, or with ``own`` those with the same examples.

    Where ``at`` is all of the prepared side, this is the last pass over them.
    """
    prepared = gradients.test_data if blocks is gradients.train else gradients.train_data
    last = at == slice(0, len(prepared))
    return blocks.within(at if gradients.own else slice(0, blocks.num_examples), again=not last)


def taken(rows: Rows, chosen: slice) -> Rows:
    """Return some of the examples."""
    return {name: block.take(chosen) for name, block in rows.items()}


def formed(gradients: SampleGradients, rows: Rows) -> Iterator[Tensor]:
    """Yield gradients [b L P] in the order of θ, as many at a time as memory has room for."""
    for part in parts(gradients, rows):
        yield gradients.vectors(part)


def parts(gradients: SampleGradients, rows: Rows) -> Iterator[Rows]:
    """Yield rows of so few examples at a time that memory has room for them formed."""
    first = next(iter(rows.values()))
    # Room for four copies: by layer, in the order of θ, and what is made of them.
    each = 4 * first.width * gradients.layout.count * gradients.theta_P.element_size()
    room = max(1, int(gradients.memory_bytes * FORMED / each))
    for start in range(0, len(first), room):
        yield taken(rows, slice(start, start + room))


def require(gradients: SampleGradients, needed_bytes: float, what: str, instead: str) -> None:
    """Refuse matrices that do not fit into the memory that was given.

    Args:
        gradients: The gradients, which know the memory.
        needed_bytes: The size of matrices that must be whole.
        what: Their name, with their size.
        instead: Advice what to use.

    Raises:
        UserError: They need more than the memory, and more than ``SMALL``.
    """
    if needed_bytes > max(gradients.memory_bytes, SMALL):
        raise UserError(
            f"{what} needs {needed_bytes / 1e9:.3g} GB, and memory_gb allows "
            f"{gradients.memory_bytes / 1e9:.3g}: {instead}"
        )
