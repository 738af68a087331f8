"""Walk through the inputs of a batch: a tensor, or mappings, tuples and lists of them.

Every leaf is a tensor whose first dim counts examples. :func:`mapped` keeps the containers, so that
a network gets what its user has made; named tuples stay named tuples.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

Convert = Callable[[Any], Any]


def mapped(change: Convert, x: Any) -> Any:
    """Return inputs of the same form, with each leaf changed.

    Args:
        change: Function of a leaf, which is whatever is no mapping, tuple or list.
        x: The inputs. Mappings become dicts.
    """
    if isinstance(x, Mapping):
        return {name: mapped(change, value) for name, value in x.items()}
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(mapped(change, value) for value in x))
    if isinstance(x, tuple | list):
        return type(x)(mapped(change, value) for value in x)
    return change(x)


def leaves(x: Any) -> Iterator[Any]:
    """Yield the leaves, in the order of the containers."""
    if isinstance(x, Mapping):
        x = x.values()
    elif not isinstance(x, tuple | list):
        yield x
        return
    for value in x:
        yield from leaves(value)


def named_leaves(x: Any, name: str = "inputs") -> Iterator[tuple[str, Any]]:
    """Yield the leaves with names for messages, such as ``inputs['pixels'][0]``."""
    items: Any
    if isinstance(x, Mapping):
        items = x.items()
    elif isinstance(x, tuple | list):
        items = enumerate(x)
    else:
        yield name, x
        return
    for key, value in items:
        yield from named_leaves(value, f"{name}[{key!r}]")


def rows_of(x: Any, chosen: Any) -> Any:
    """Index the first dim of each tensor of the inputs."""
    return mapped(lambda value: value[chosen], x)


def length(x: Any) -> int:
    """Return the number of examples, that of the first tensor's rows."""
    return len(next(leaves(x)))


def concatenated(one: Any, other: Any) -> Any:
    """Return inputs with the rows of one, then those of the other, of the same form."""
    rest = iter(list(leaves(other)))
    return mapped(lambda value: torch.cat([value, next(rest)]), one)


def copied(x: Any) -> Any:
    """Return inputs that a network may write into, container by container and tensor by tensor."""
    return mapped(lambda value: value.clone() if isinstance(value, Tensor) else value, x)
