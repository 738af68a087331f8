"""Types of flags: functions that argparse reads a word with, and refusals of unused flags."""

from argparse import ArgumentTypeError, Namespace

from bayestda.errors import UserError

LARGEST = 2**32  # seeds are below this, as NumPy's generators take them


def index(text: str) -> int:
    """Read a whole number from 0 on."""
    if not 0 <= int(text) < LARGEST:
        raise ArgumentTypeError(f"must be a whole number from 0 to 2^32 - 1, got {text}")
    return int(text)


def count(text: str) -> int:
    """Read a whole number from 1 on."""
    if not 1 <= int(text) < LARGEST:
        raise ArgumentTypeError(f"must be a whole number from 1 to 2^32 - 1, got {text}")
    return int(text)


def size(text: str) -> float:
    """Read a positive number."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"must be a positive number, got {text}")
    return value


def refuse(flags: Namespace, names: str | tuple[str, ...], reason: str) -> None:
    """Refuse flags that would have no effect.

    Args:
        flags: The parsed flags.
        names: The flags' names; one that was not given is None or False.
        reason: Where the flag would have an effect, as "applies only to ...".

    Raises:
        UserError: One of them was given.
    """
    for name in (names,) if isinstance(names, str) else names:
        if getattr(flags, name, None) not in (None, False):
            raise UserError(f"--{name} {reason}: leave it out")
