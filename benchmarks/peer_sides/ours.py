"""This project's side: ``tda.attribute`` as a user calls it."""

from typing import Any

import torch
from peer_cases import Case
from torch import Tensor

import bayestda as tda
from bayestda.gradients.sample import SampleGradients
from bayestda.methods.trak import Projection
from bayestda.model.examples import Data
from bayestda.model.parameters import Parameters
from peer_sides.settings import Projected, Work, settings


def attribute(case: Case, method: str, **options: Any) -> Tensor:
    """Scores [N M]."""
    posterior = tda.Posterior.of_networks({0: [case.network]})
    scores = tda.attribute(
        posterior, tda.Classification(), case.train, case.test, method=method, **options
    )
    return torch.from_numpy(scores.values.reshape(scores.shape[-2:]))  # one seed, one checkpoint


def gradients_of(case: Case) -> SampleGradients:
    """The library's gradients of the case."""
    theta_P = Parameters(case.network).read(case.network)
    train, test = (Data(x, y, torch.arange(len(y)).numpy()) for x, y in (case.train, case.test))
    return SampleGradients(
        case.network, tda.Classification(), theta_P, train=train, test=test, memory_bytes=4e9
    )


def grad_dot(case: Case) -> Work:
    """Grad-Dot."""
    return lambda: attribute(case, "grad_dot")


def gauss_newton(case: Case) -> Work:
    """Exact Gauss-Newton influence."""
    return lambda: attribute(case, "influence", damping=settings(case).damping)


def hessian(case: Case) -> Work:
    """Influence with the exact Hessian, formed."""
    return lambda: attribute(case, "influence_hessian", damping=settings(case).damping)


def hessian_cg(case: Case) -> Work:
    """Influence with the Hessian by block conjugate gradients."""
    own = settings(case)
    return lambda: attribute(
        case, "influence_cg", damping=own.damping, tolerance=own.tolerance, curvature="hessian"
    )


def lissa(case: Case) -> Work:
    """LiSSA on the Hessian."""
    own = settings(case)
    return lambda: attribute(
        case, "influence_lissa", damping=own.lissa_damping, scale=own.lissa_scale,
        steps=own.lissa_steps, batch_size=own.lissa_batch, curvature="hessian",
    )  # fmt: skip


def low_rank(case: Case) -> Work:
    """The Hessian's leading eigenvectors only."""
    return _low_rank(case, complement=False)


def low_rank_and_rest(case: Case) -> Work:
    """The Hessian's leading eigenvectors, and 0 as the eigenvalue of all others."""
    return _low_rank(case, complement=True)


def _low_rank(case: Case, *, complement: bool) -> Work:
    own = settings(case)
    return lambda: attribute(
        case, "influence_low_rank", damping=own.damping, rank=own.rank, curvature="hessian",
        complement=complement,
    )  # fmt: skip


def ekfac(case: Case) -> Work:
    """EK-FAC of the Gauss-Newton matrix."""
    return lambda: attribute(case, "influence_ekfac", damping=settings(case).damping)


def ekfac_empirical(case: Case) -> Work:
    """EK-FAC of the empirical Fisher."""
    return lambda: attribute(
        case, "influence_ekfac", damping=settings(case).damping, curvature="empirical_fisher"
    )


def trak(case: Case) -> Work:
    """TRAK."""
    size = settings(case).projection

    def work() -> Projected:
        scores_NM = attribute(case, "trak", projection=size)
        return Projected(scores_NM, lambda: _signs(case, size))

    return work


def _signs(case: Case, size: int) -> Tensor:
    """The projection [P k] of ``trak``, as it is for any one checkpoint with seed 0."""
    gradients = gradients_of(case)
    project = Projection(gradients, size, 0)
    return torch.cat(list(project._chunks())) / size**0.5


SIDES = {
    "ours: grad_dot": grad_dot,
    "ours: influence": gauss_newton,
    "ours: influence_hessian": hessian,
    "ours: influence_cg, Hessian": hessian_cg,
    "ours: influence_lissa": lissa,
    "ours: influence_low_rank": low_rank,
    "ours: influence_low_rank, and the rest": low_rank_and_rest,
    "ours: influence_ekfac": ekfac,
    "ours: influence_ekfac, empirical": ekfac_empirical,
    "ours: trak": trak,
}
