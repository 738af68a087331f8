"""Scores block by block, so that neither gradients nor scores have to fit into memory.

A method yields blocks: some training rows, some test columns, their scores. What a test example
brings is prepared once for as many test examples as memory has room for; training gradients then
pass by, a block at a time. Time grows as N · M, memory does not.
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

PREPARED, FORMED = 1 / 4, 1 / 8  # shares of memory: of the test side, and of formed gradients
SMALL = 2**26  # bytes; less is never refused, as an interpreter with torch takes more


class by_blocks(Generic[Own]):
    """A method written as blocks, as a function that gives all scores [N M].

    Attributes:
        blocks: the method: gives them one by one.
    """

    def __init__(self, blocks: Callable[Concatenate[SampleGradients, Own], Blocks]):
        self.blocks = blocks
        update_wrapper(self, blocks)

    def __call__(
        self, gradients: SampleGradients, *args: Own.args, **settings: Own.kwargs
    ) -> Tensor:
        """All scores [N M]."""
        size = (len(gradients.train_data), len(gradients.test_data))
        return collected(self.blocks(gradients, *args, **settings), size)


def collected(blocks: Blocks, size: tuple[int, int]) -> Tensor:
    """Scores [N M] of blocks that cover them; one that covers them alone is not copied."""
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
    """∇L(z_j)ᵀ∇g(z); kept for another method where all of them are few."""
    size = (len(gradients.train_data), len(gradients.test_data))
    few = size[0] * size[1] * gradients.theta_P.element_size() <= gradients.memory_bytes / 8
    if gradients.own or not few:
        yield from _products(gradients)
        return
    if "products" not in gradients.kept:
        gradients.kept["products"] = collected(_products(gradients), size)
    yield slice(0, size[0]), slice(0, size[1]), gradients.kept["products"]


def _products(gradients: SampleGradients) -> Blocks:
    element = gradients.theta_P.element_size()
    each = 2 * gradients.test.bytes_each + 4 * gradients.train.block * element
    for columns, test in chunks(gradients, gradients.test, each):
        for rows, train in partners(gradients, gradients.train, columns):
            yield rows, columns, inner(train, test)[:, 0, :, 0]


def between(gradients: SampleGradients, conditioned: Callable[[Tensor], Tensor]) -> Blocks:
    """∇L(z_j)ᵀ F ∇g(z), in the precision that F gives.

    Args:
        gradients: of one sample of θ.
        conditioned: products of the symmetric F with vectors, from [P v] in float64 to [P v]; it
            is given the training or the test gradients, whichever are fewer.
    """
    train_side = len(gradients.train_data) < len(gradients.test_data)
    sides = (gradients.train, gradients.test)
    few, others = sides if train_side else sides[::-1]
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
    """Rows of several blocks at once: as many as their share of memory has room for.

    Args:
        gradients: of one sample of θ; with ``own``, a block is a chunk.
        blocks: of the side that is prepared.
        bytes_each: what preparing one example takes.
    """
    room = max(1, int(gradients.memory_bytes * PREPARED / bytes_each))
    if room < blocks.block:
        for chosen, rows in blocks:
            for start in range(chosen.start, chosen.stop, room):
                part = slice(start, min(start + room, chosen.stop))
                yield part, taken(rows, slice(start - chosen.start, part.stop - chosen.start))
        return
    length = blocks.block * (1 if gradients.own else room // blocks.block)
    for start in range(0, blocks.num_examples, length):
        whole = slice(start, min(start + length, blocks.num_examples))
        yield whole, joined([rows for _, rows in blocks.within(whole)])


def partners(
    gradients: SampleGradients, blocks: RowBlocks, at: slice
) -> Iterator[tuple[slice, Rows]]:
    """Blocks of the other side: all, or with ``own`` those with the same examples.

    Where ``at`` is all of the prepared side, they will not be asked for again.
    """
    prepared = gradients.test_data if blocks is gradients.train else gradients.train_data
    last = at == slice(0, len(prepared))
    return blocks.within(at if gradients.own else slice(0, blocks.num_examples), again=not last)


def taken(rows: Rows, chosen: slice) -> Rows:
    """Some of the examples."""
    return {name: block.take(chosen) for name, block in rows.items()}


def formed(gradients: SampleGradients, rows: Rows) -> Iterator[Tensor]:
    """Gradients [b L P] in the order of θ, as many at a time as memory has room for."""
    for part in parts(gradients, rows):
        yield gradients.vectors(part)


def parts(gradients: SampleGradients, rows: Rows) -> Iterator[Rows]:
    """Rows of as few examples at a time as memory has room for, once they are formed."""
    first = next(iter(rows.values()))
    each = 4 * first.width * gradients.layout.count * gradients.theta_P.element_size()
    room = max(1, int(gradients.memory_bytes * FORMED / each))
    for start in range(0, len(first), room):
        yield taken(rows, slice(start, start + room))


def require(gradients: SampleGradients, needed_bytes: float, what: str, instead: str) -> None:
    """Refuse what cannot be had within the memory that was given.

    Args:
        gradients: know the memory.
        needed_bytes: of matrices that must be whole.
        what: names them, with their size.
        instead: what to use.

    Raises:
        UserError: it is more than the memory, and no trifle.
    """
    if needed_bytes > max(gradients.memory_bytes, SMALL):
        raise UserError(
            f"{what} needs {needed_bytes / 1e9:.3g} GB, and memory_gb allows "
            f"{gradients.memory_bytes / 1e9:.3g}: {instead}"
        )
