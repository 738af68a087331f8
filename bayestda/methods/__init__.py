"""Attribution methods, a file each: gradients of a sample of θ become scores [N M].

Positive = helpful in all of them. Each is ∇g(z)ᵀ φ(C) ∇L(z_j), or says what else it is.
"""

from collections.abc import Callable, Iterable
from typing import Any

from bayestda.gradients.blocks import Blocks
from bayestda.methods.conjugate_gradients import cg_influence
from bayestda.methods.datainf import datainf
from bayestda.methods.ekfac import ekfac_influence
from bayestda.methods.generalised import generalised_influence, near_stationary, proposition_1
from bayestda.methods.grad_cos import grad_cos
from bayestda.methods.grad_dot import grad_dot
from bayestda.methods.influence import hessian_influence, influence
from bayestda.methods.lissa import lissa
from bayestda.methods.logra import projected_influence
from bayestda.methods.low_rank import low_rank_influence
from bayestda.methods.preconditioned import preconditioned_influence
from bayestda.methods.representer import representer_points
from bayestda.methods.tracin import tracin
from bayestda.methods.trak import mean_products, trak_parts
from bayestda.methods.unrolled import flow_influence, unrolled_influence

Combine = Callable[[Iterable[Any]], Blocks]  # what checkpoints gave -> blocks to be added up


def total(checkpoints: Iterable[Blocks]) -> Blocks:
    """The sum over checkpoints, one after the other."""
    for blocks in checkpoints:
        yield from blocks


METHODS: dict[str, tuple[Callable[..., Any], Combine | None]] = {
    "grad_dot": (grad_dot, None),
    "grad_cos": (grad_cos, None),
    "tracin": (tracin, total),
    "influence": (influence, None),
    "influence_hessian": (hessian_influence, None),
    "influence_cg": (cg_influence, None),
    "influence_lissa": (lissa, None),
    "influence_low_rank": (low_rank_influence, None),
    "influence_ekfac": (ekfac_influence, None),
    "influence_projected": (projected_influence, None),
    "influence_preconditioned": (preconditioned_influence, None),
    "datainf": (datainf, None),
    "generalised": (generalised_influence, None),
    "proposition_1": (proposition_1, None),
    "near_stationary": (near_stationary, None),
    "trak": (trak_parts, mean_products),
    "unrolled": (unrolled_influence, None),
    "flow": (flow_influence, None),
    "representer": (representer_points, None),
}
