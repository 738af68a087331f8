"""The algorithm of torch-influence (see per_point.py)."""

import per_point
from peer_cases import Case

from peer_sides.settings import Work, settings


def cg(case: Case) -> Work:
    """Conjugate gradients point by point."""
    own = settings(case)
    return lambda: per_point.influence(
        case.network, case.train, case.test,
        per_point.by_cg(case.network, case.train, own.damping, own.tolerance),
    )  # fmt: skip


def lissa(case: Case) -> Work:
    """LiSSA point by point."""
    own = settings(case)
    inverse = per_point.by_lissa(
        case.network, case.train, own.lissa_damping, scale=own.lissa_scale,
        steps=own.lissa_steps, batch=own.lissa_batch,
    )  # fmt: skip
    return lambda: per_point.influence(case.network, case.train, case.test, inverse)


SIDES = {"torch-influence's algorithm: CG": cg, "torch-influence's algorithm: LiSSA": lissa}
