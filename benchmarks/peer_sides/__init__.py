"""Both sides of every row: functions that import what they need and return the work to be timed.

A work maps nothing to scores [N M] in the units of this library, positive where the training
example helps: ∇g(z)ᵀ φ(C) ∇L(z_j), C the curvature of the *mean* training loss. Where a peer has
another sign or scale, its function turns it, and says so.
"""

from collections.abc import Callable

from peer_cases import Case

from peer_sides import (
    by_captum,
    by_curvlinops,
    by_dattri,
    by_kronfluence,
    by_points,
    by_pydvl,
    by_traker,
    ours,
)
from peer_sides.settings import Work

Side = Callable[[Case], Work]
_FILES = (
    ours,
    by_captum,
    by_curvlinops,
    by_dattri,
    by_kronfluence,
    by_points,
    by_pydvl,
    by_traker,
)
SIDES: dict[str, Side] = {name: side for file in _FILES for name, side in file.SIDES.items()}
