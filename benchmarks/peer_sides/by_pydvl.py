"""pyDVL. Its Gauss-Newton mode is the mean of ∇L∇Lᵀ, not JᵀSJ: its Hessian mode is compared."""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from peer_cases import Case
from torch import Tensor

from peer_sides.settings import Work, loader, settings


def direct(case: Case) -> Work:
    """The Hessian formed and solved."""
    from pydvl.influence.torch import DirectInfluence

    damping = settings(case).damping
    return _fitted(lambda: DirectInfluence(case.network, F.cross_entropy, damping), case)


def cg(case: Case) -> Work:
    """Block conjugate gradients."""
    from pydvl.influence.torch import CgInfluence

    own = settings(case)
    return _fitted(
        lambda: CgInfluence(
            case.network, F.cross_entropy, own.damping, rtol=own.tolerance, atol=0.0,
            solve_simultaneously=True,
        ),
        case,
    )  # fmt: skip


def lissa(case: Case) -> Work:
    """LiSSA; each step takes the next batch."""
    from pydvl.influence.torch import LissaInfluence

    own = settings(case)
    return _fitted(
        lambda: LissaInfluence(
            case.network, F.cross_entropy, own.lissa_damping, maxiter=own.lissa_steps,
            scale=own.lissa_scale, rtol=0.0, warn_on_max_iteration=False,
        ),
        case,
        own.lissa_batch,
    )  # fmt: skip


def arnoldi(case: Case) -> Work:
    """The leading eigenvectors only, by ARPACK through scipy."""
    from pydvl.influence.torch import ArnoldiInfluence

    own = settings(case)
    return _fitted(
        lambda: ArnoldiInfluence(case.network, F.cross_entropy, own.damping, rank=own.rank), case
    )


def nystroem(case: Case) -> Work:
    """A random sketch of the Hessian, and the damping."""
    from pydvl.influence.torch import NystroemSketchInfluence

    own = settings(case)
    return _fitted(
        lambda: NystroemSketchInfluence(case.network, F.cross_entropy, own.damping, own.rank), case
    )


def ekfac(case: Case) -> Work:
    """EK-FAC of linear layers, with corrected eigenvalues."""
    from pydvl.influence.torch import EkfacInfluence

    damping = settings(case).damping
    return _fitted(
        lambda: EkfacInfluence(case.network, update_diagonal=True, hessian_regularization=damping),
        case,
    )


def _fitted(model: Callable[[], Any], case: Case, batch: int | None = None) -> Work:
    """Scores come as [M N]."""

    def work() -> Tensor:
        return model().fit(loader(case.train, batch)).influences(*case.test, *case.train).T

    return work


SIDES = {
    "pyDVL: Direct": direct,
    "pyDVL: CG": cg,
    "pyDVL: LiSSA": lissa,
    "pyDVL: Arnoldi": arnoldi,
    "pyDVL: Nyström": nystroem,
    "pyDVL: EK-FAC": ekfac,
}
