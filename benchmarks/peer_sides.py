"""The peers: each side of a row is a function that imports its library and returns the work.

The work maps nothing to scores [N M] that are positive where the training example helps, in the
units of this library: ∇g(z)ᵀ φ(C) ∇L(z_j) with C of the *mean* training loss. Where a peer has
another sign or scale, its function says so.
"""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import per_point
import torch
import torch.nn.functional as F
from peer_cases import Case
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

DAMPING = 0.1
TOLERANCE = 1e-5  # of conjugate gradients, relative
STEPS, SCALE = 300, 10.0  # of LiSSA, each step with all training examples
PROJECTION = 64  # of TRAK

Work = Callable[[], Tensor]


def loader(data: tuple[Tensor, Tensor], batch: int | None = None) -> DataLoader:
    """All examples in one batch, unless told otherwise."""
    return DataLoader(TensorDataset(*data), batch_size=batch or len(data[1]))


def captum_grad_dot(case: Case) -> Work:
    """TracInCP with one checkpoint and weight 1, batched per-example gradients."""
    from captum.influence import TracInCP

    def work() -> Tensor:
        tracin = TracInCP(
            case.network, loader(case.train), ["only"], lambda *_: 1.0,
            loss_fn=nn.CrossEntropyLoss(reduction="sum"), sample_wise_grads_per_batch=True,
        )  # fmt: skip
        return tracin.influence(case.test).T

    return work


def captum_naive(case: Case) -> Work:
    """NaiveInfluenceFunction with all eigenvectors: (H + λ)⁻¹, H of the mean loss."""
    from captum.influence._core.influence_function import NaiveInfluenceFunction

    def work() -> Tensor:
        count = sum(p.numel() for p in case.network.parameters())
        naive = NaiveInfluenceFunction(
            case.network, loader(case.train), "only", lambda *_: 1.0,
            loss_fn=nn.CrossEntropyLoss(reduction="sum"), sample_wise_grads_per_batch=True,
            projection_dim=count, hessian_reg=DAMPING, hessian_inverse_tol=0.0,
        )  # fmt: skip
        return naive.influence(case.test).T

    return work


def _dattri_task(case: Case) -> Any:
    from dattri.task import AttributionTask

    def loss(params: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(functional_call(case.network, params, data[0]), data[1])

    return AttributionTask(loss, case.network, case.network.state_dict())


def _dattri_point_task(case: Case, value: Callable[[Tensor, Tensor], Tensor]) -> Any:
    """Of one example at a time, under vmap."""
    from dattri.task import AttributionTask

    def one(params: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        output_1K = functional_call(case.network, params, data[0].unsqueeze(0))
        return value(output_1K, data[1].unsqueeze(0))

    return AttributionTask(one, case.network, case.network.state_dict())


def dattri_grad_dot(case: Case) -> Work:
    """TracIn with one checkpoint and weight 1; its default projection to 512 numbers is off."""
    from dattri.algorithm.tracin import TracInAttributor

    def work() -> Tensor:
        task = _dattri_point_task(case, F.cross_entropy)
        attributor = TracInAttributor(task, torch.ones(1), normalized_grad=False)
        attributor.projector_kwargs = None
        return attributor.attribute(loader(case.train), loader(case.test))

    return work


def _dattri(kind: str, case: Case, **settings: Any) -> Work:
    from dattri.algorithm import influence_function

    def work() -> Tensor:
        attributor = getattr(influence_function, kind)(_dattri_task(case), **settings)
        attributor.cache(loader(case.train))  # in one batch: with more it is wrong
        return attributor.attribute(loader(case.train), loader(case.test))

    return work


def dattri_explicit(case: Case) -> Work:
    """The Hessian formed and solved."""
    return _dattri("IFAttributorExplicit", case, regularization=DAMPING)


def dattri_cg(case: Case) -> Work:
    """Conjugate gradients; its tolerance is of the residual's norm, not relative."""
    return _dattri("IFAttributorCG", case, regularization=DAMPING, max_iter=500, tol=1e-5)


def dattri_lissa(case: Case) -> Work:
    """LiSSA, all examples a step."""
    return _dattri(
        "IFAttributorLiSSA", case, batch_size=len(case.train[1]), recursion_depth=STEPS,
        damping=DAMPING / SCALE, scaling=SCALE,
    )  # fmt: skip


def dattri_ekfac(case: Case) -> Work:
    """EK-FAC of linear layers."""
    return _dattri("IFAttributorEKFAC", case, damping=DAMPING)


def dattri_trak(case: Case) -> Work:
    """TRAK with random signs."""
    from dattri.algorithm.trak import TRAKAttributor

    def negative_margin(output_1K: Tensor, y_1: Tensor) -> Tensor:
        own = output_1K[0, y_1[0]]
        p = output_1K.softmax(-1)[0, y_1[0]]
        return torch.log(p / (1 - p)) + 0 * own

    def work() -> Tensor:
        task = _dattri_point_task(case, negative_margin)

        def probability(params: Tensor, data: tuple[Tensor, Tensor]) -> Tensor:
            named = task.get_param()
            raise NotImplementedError(named, params, data)

        attributor = TRAKAttributor(task, probability, {"proj_dim": PROJECTION})
        attributor.cache(loader(case.train))
        return attributor.attribute(loader(case.test)).T

    return work


def _pydvl(model: Any, case: Case) -> Work:
    """pyDVL gives −∇L(z)ᵀ (H + λ)⁻¹ ∇L(z_j) [M N]."""

    def work() -> Tensor:
        fitted = model().fit(loader(case.train))
        return fitted.influences(*case.test, *case.train).T

    return work


def pydvl_direct(case: Case) -> Work:
    """The Hessian formed and solved."""
    from pydvl.influence.torch import DirectInfluence

    return _pydvl(lambda: DirectInfluence(case.network, F.cross_entropy, DAMPING), case)


def pydvl_cg(case: Case) -> Work:
    """Conjugate gradients for all test examples at once."""
    from pydvl.influence.torch import CgInfluence

    return _pydvl(
        lambda: CgInfluence(
            case.network, F.cross_entropy, DAMPING, rtol=TOLERANCE, atol=0.0,
            solve_simultaneously=True,
        ),
        case,
    )  # fmt: skip


def pydvl_lissa(case: Case) -> Work:
    """LiSSA, all examples a step."""
    from pydvl.influence.torch import LissaInfluence

    return _pydvl(
        lambda: LissaInfluence(
            case.network, F.cross_entropy, DAMPING, maxiter=STEPS, scale=SCALE, rtol=0.0,
            warn_on_max_iteration=False,
        ),
        case,
    )  # fmt: skip


def pydvl_ekfac(case: Case) -> Work:
    """EK-FAC of linear layers, its eigenvalues corrected."""
    from pydvl.influence.torch import EkfacInfluence

    return _pydvl(
        lambda: EkfacInfluence(case.network, update_diagonal=True, hessian_regularization=DAMPING),
        case,
    )
