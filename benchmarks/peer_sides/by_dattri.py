"""dattri: curvature of one cached batch, since with more it is wrong."""

from typing import Any

import torch
import torch.nn.functional as F
from peer_cases import Case
from torch import Tensor
from torch.func import functional_call

from peer_sides.settings import Projected, Work, loader, settings


def grad_dot(case: Case) -> Work:
    """TracIn with one checkpoint of rate 1; its default projection to 512 numbers is turned off."""
    from dattri.algorithm.tracin import TracInAttributor

    def work() -> Tensor:
        attributor = TracInAttributor(_task(case), torch.ones(1), normalized_grad=False)
        attributor.projector_kwargs = None
        return attributor.attribute(loader(case.train), loader(case.test))

    return work


def explicit(case: Case) -> Work:
    """The Hessian formed and solved."""
    return _influence("IFAttributorExplicit", case, regularization=settings(case).damping)


def cg(case: Case) -> Work:
    """Conjugate gradients of a fixed number of steps: it has no stopping rule."""
    own = settings(case)
    options = {"regularization": own.damping, "max_iter": own.cg_steps}
    return _influence("IFAttributorCG", case, **options)


def lissa(case: Case) -> Work:
    """LiSSA; each step draws its batch at random."""
    own = settings(case)
    return _influence(
        "IFAttributorLiSSA", case, batch_size=own.lissa_batch, scaling=own.lissa_scale,
        recursion_depth=own.lissa_steps, damping=own.lissa_damping / own.lissa_scale,
    )  # fmt: skip


def ekfac(case: Case) -> Work:
    """EK-FAC of linear layers."""
    return _influence("IFAttributorEKFAC", case, damping=settings(case).damping)


def trak(case: Case) -> Work:
    """TRAK with its projection for a CPU (normal)."""
    from dattri.algorithm.trak import TRAKAttributor
    from dattri.func.projection import make_random_projector

    size = settings(case).projection

    def probability(params: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        return torch.exp(-_loss(case, params, data))

    def log_odds(params: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        p = probability(params, data)
        return torch.log(p / (1 - p))

    def work() -> Projected:
        task = _task(case, log_odds)
        attributor = TRAKAttributor(task, probability, {"proj_dim": size})
        attributor.cache(loader(case.train))
        scores_NM = attributor.attribute(loader(case.test))
        return Projected(scores_NM, lambda: _projection(make_random_projector, case, attributor))

    return work


def _projection(make: Any, case: Case, attributor: Any) -> Tensor:
    """The projection [P k] that the attributor has drawn."""
    from dattri.func.projection import ProjectionType

    count = sum(p.numel() for p in case.network.parameters())
    kwargs = attributor.projector_kwargs
    projector = make(
        [count], 1, kwargs["proj_dim"], kwargs["proj_max_batch_size"], torch.device("cpu"),
        proj_seed=kwargs["proj_seed"], proj_type=ProjectionType.normal,
    )  # fmt: skip
    projector.project(torch.zeros(1, count), 0)
    return projector.proj_matrix


def _loss(case: Case, params: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
    """Of one example, or the mean of several; LiSSA hands labels on as floats."""
    x, y = data
    one = y.ndim == 0
    output = functional_call(case.network, params, x.unsqueeze(0) if one else x)
    return F.cross_entropy(output, (y.unsqueeze(0) if one else y).long())


def _task(case: Case, value: Any = None) -> Any:
    from dattri.task import AttributionTask

    def loss(params: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        return _loss(case, params, data)

    return AttributionTask(value or loss, case.network, case.network.state_dict())


def _influence(kind: str, case: Case, **options: Any) -> Work:
    from dattri.algorithm import influence_function

    def work() -> Tensor:
        attributor = getattr(influence_function, kind)(_task(case), **options)
        attributor.cache(loader(case.train))
        return attributor.attribute(loader(case.train), loader(case.test))

    return work


SIDES = {
    "dattri: Grad-Dot": grad_dot,
    "dattri: Explicit": explicit,
    "dattri: CG": cg,
    "dattri: LiSSA": lissa,
    "dattri: EK-FAC": ekfac,
    "dattri: TRAK": trak,
}
