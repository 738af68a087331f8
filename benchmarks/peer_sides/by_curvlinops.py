"""curvlinops: its operators and inverses; per-example gradients are by ``torch.func``."""

from collections.abc import Callable
from typing import Any

import torch
from peer_cases import Case
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from peer_sides.settings import Work, loader, settings


def ggn_cg(case: Case) -> Work:
    """CG on GGN + λ, all gradients at once of the side that has fewer."""
    import curvlinops
    from curvlinops.examples import IdentityLinearOperator

    own = settings(case)

    def inverse(operator: Any, vectors_PV: Tensor) -> Tensor:
        eye = IdentityLinearOperator(
            [p.shape for p in case.network.parameters()], vectors_PV.device, vectors_PV.dtype
        )
        damped = operator + own.damping * eye
        return (
            curvlinops.CGInverseLinearOperator(
                damped, tolerance=own.tolerance, eps=0, max_iter=100, max_tridiag_iter=0
            )
            @ vectors_PV
        )

    return _work(case, curvlinops.GGNLinearOperator, inverse)


def ekfac(case: Case) -> Work:
    """The inverse of EKFACLinearOperator + λ, with the exact Fisher (type 2)."""
    import curvlinops

    def make(*arguments: Any, **options: Any) -> Any:
        return curvlinops.EKFACLinearOperator(
            *arguments, fisher_type="type-2", separate_weight_and_bias=False, **options
        )

    def inverse(operator: Any, vectors_PV: Tensor) -> Tensor:
        return (
            curvlinops.KFACInverseLinearOperator(
                operator, damping=settings(case).damping, use_exact_damping=True
            )
            @ vectors_PV
        )

    return _work(case, make, inverse)


def _work(case: Case, make: Callable, inverse: Callable[[Any, Tensor], Tensor]) -> Work:
    def work() -> Tensor:
        parameters = list(case.network.parameters())
        operator = make(
            case.network, nn.CrossEntropyLoss(), parameters, loader(case.train),
            check_deterministic=False,
        )  # fmt: skip
        train_NP, test_MP = _gradients(case, case.train), _gradients(case, case.test)
        if len(test_MP) < len(train_NP):
            return train_NP @ inverse(operator, test_MP.T)
        return inverse(operator, train_NP.T).T @ test_MP.T

    return work


def _gradients(case: Case, data: tuple[Tensor, Tensor]) -> Tensor:
    """∇L [B P]."""
    named = {name: p.detach() for name, p in case.network.named_parameters()}

    def loss(named: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        output_1K = functional_call(case.network, named, (x[None],))
        return nn.functional.cross_entropy(output_1K, y[None])

    found = vmap(grad(loss), in_dims=(None, 0, 0))(named, *data)
    return torch.cat([g.flatten(1) for g in found.values()], dim=1)


SIDES = {"curvlinops: GGN, CG": ggn_cg, "curvlinops: EK-FAC": ekfac}
