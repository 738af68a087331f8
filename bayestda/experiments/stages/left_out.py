"""Ranges of left-out examples, by which several jobs share the trainings of a run.

Item 0 is the run with all examples, item j + 1 the one without example j.
"""

import re
from argparse import ArgumentParser, ArgumentTypeError

from bayestda.errors import UserError
from bayestda.experiments.stages.options import Options


def add_loo_ids(parser: ArgumentParser) -> None:
    """Add ``--loo_ids``."""
    parser.add_argument(
        "--loo_ids", type=_first_and_last, metavar="FIRST:LAST",
        help="train without examples FIRST to LAST - 1 only (counted from 0 in the index list), to "
        "spread a run over several jobs; the last of them joins the parts",
    )  # fmt: skip


def wanted_items(options: Options, num_left_out: int) -> range:
    """Return the items of ``--loo_ids``, without it all; item 0 goes with example 0.

    Args:
        options: The flags.
        num_left_out: The number of examples of the run that are left out in turn.

    Raises:
        UserError: The range is empty, or reaches beyond these examples.
    """
    first, last = options["loo_ids"] or (0, num_left_out)
    if not 0 <= first < last <= num_left_out:
        raise UserError(
            f"--loo_ids {first}:{last} must be FIRST:LAST with FIRST < LAST, between 0 and "
            f"{num_left_out}, the number of examples that are left out in turn"
        )
    return range(first + 1 if first else 0, last + 1)


def _first_and_last(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if not found:
        raise ArgumentTypeError(f"must be FIRST:LAST, two whole numbers, and not {text!r}")
    return int(found[1]), int(found[2])
