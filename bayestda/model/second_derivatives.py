"""Find a way to a derivative that is right: each is looked at before it is used.

PyTorch has several ways to second derivatives: double backward passes, forward mode, and either of
them under ``vmap``. None goes through all layers, and some go through a layer and are wrong. So a
way is used only if it agrees with central differences of first derivatives, once, on a few
examples.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.func import jvp

from bayestda.errors import UserError, out_of_memory

Way = TypeVar("Way", bound=Callable[..., Any])

# Steps of differences, as powers of the rounding unit: the best one lies between the first, whose
# error is the curvature's, and the last, whose error is rounding.
_POWERS = (1 / 4, 1 / 3, 5 / 12)
# Relative difference that is allowed besides the error of the differences themselves. Wrong
# derivatives differ by their own size.
_ALLOWED = 1e-3


class Differences(NamedTuple):
    """Hold a derivative by central differences, and its error.

    Attributes:
        value: The derivative along a direction.
        error: Norm of its error, estimated from steps of several lengths.
    """

    value: Tensor
    error: float


def differences(function: Callable[[Tensor], Tensor], at_P: Tensor, along_P: Tensor) -> Differences:
    """Return the derivative of a function along a direction, by central differences.

    Args:
        function: Any function of vectors, such as the gradient of a loss.
        at_P: The point.
        along_P: The direction.
    """
    length = _length(at_P) / _length(along_P)
    rounding = torch.finfo(at_P.dtype).eps
    found, noise = [], 0.0
    for power in _POWERS:
        step = rounding**power * length
        above, below = function(at_P + step * along_P), function(at_P - step * along_P)
        found.append((above - below).detach() / (2 * step))
        noise = rounding * float(above.norm() + below.norm()) / step
    first, middle, last = found
    # The middle one's error is about its distance from the nearer of the others. A kink that only
    # a long step crosses is so left out.
    gap = min(float((first - middle).norm()), float((last - middle).norm()))
    return Differences(middle, gap + noise)


def agrees(found: Tensor, wanted: Differences) -> bool:
    """Return whether a derivative is that of the differences, up to their error.

    Differences that are not finite tell nothing, and agree with anything.
    """
    if not wanted.value.isfinite().all():
        return True
    gap = float((found.detach().to(wanted.value) - wanted.value).norm())
    return gap <= _ALLOWED * float(wanted.value.norm()) + 4 * wanted.error


def first_right(
    ways: Mapping[str, Way], is_right: Callable[[Way], bool], what: str, mend: str
) -> Way:
    """Return the first of several ways that goes through and is right.

    Args:
        ways: Functions, the fastest first, by a name that a reader understands.
        is_right: A function that tries a way, and says whether its result is right.
        what: Name of the result, for the message.
        mend: Advice what else to do.

    Raises:
        UserError: None is right.
    """
    reasons: dict[str, str] = {}  # the ways that have a reason in common are named by the first
    for name, way in ways.items():
        try:
            if is_right(way):
                return way
            reasons.setdefault("they differ from differences of first derivatives", name)
        except UserError:
            raise
        except Exception as error:  # layers and functorch raise errors of any type
            if out_of_memory(error):
                raise
            first_line = (str(error) or type(error).__name__).splitlines()[0]
            reasons.setdefault(first_line[:150], name)
    why = "; ".join(f"by {name}: {reason}" for reason, name in reasons.items())
    raise UserError(f"{what} cannot be had of this network and loss ({why}): {mend}")


def probe(like: Tensor, sizes: Sequence[int] = ()) -> Tensor:
    """Return random directions [*sizes, *like.shape], the same at every call."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(*sizes, *like.shape, generator=generator, dtype=torch.float64)
    return numbers.to(like)


def _length(vector_P: Tensor) -> float:
    """Root mean square of a vector, or 1 if it is 0."""
    return float(vector_P.detach().norm()) / max(len(vector_P), 1) ** 0.5 or 1.0


@cache
def load_forward_mode() -> None:
    """Let PyTorch compile what forward mode needs, without its warning."""
    # On the first use PyTorch (2.13) compiles some formulas by a deprecated function of its own,
    # and warns about it; a throw-away derivative takes that warning out of users' sight.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        jvp(torch.sin, (torch.ones(()),), (torch.ones(()),))
