"""What flags may be: functions that argparse reads a word with."""

from argparse import ArgumentTypeError

LARGEST = 2**32  # of seeds, as generators take them


def index(text: str) -> int:
    """A whole number from 0 on."""
    if not 0 <= int(text) < LARGEST:
        raise ArgumentTypeError(f"is counted from 0 on, below 2^32, and cannot be {text}")
    return int(text)


def count(text: str) -> int:
    """A whole number from 1 on."""
    if not 1 <= int(text) < LARGEST:
        raise ArgumentTypeError(f"must be a positive number below 2^32, not {text}")
    return int(text)


def size(text: str) -> float:
    """A positive number."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"must be a positive number, not {text}")
    return value
