"""captum."""

from peer_cases import Case
from torch import nn

from peer_sides.settings import Work, loader, settings


def tracin(case: Case) -> Work:
    """TracInCP with one checkpoint of rate 1, per-example gradients of a batch at once."""
    from captum.influence import TracInCP

    def work():
        found = TracInCP(
            case.network, loader(case.train), ["only"], lambda *_: 1.0,
            loss_fn=nn.CrossEntropyLoss(reduction="sum"), sample_wise_grads_per_batch=True,
        )  # fmt: skip
        return found.influence(case.test).T

    return work


def naive(case: Case) -> Work:
    """NaiveInfluenceFunction with all eigenvectors.

    Its Hessian is of the summed loss: with N λ as its damping, N times its scores are ours.
    """
    from captum.influence._core.influence_function import NaiveInfluenceFunction

    count = len(case.train[1])
    num_parameters = sum(p.numel() for p in case.network.parameters())

    def work():
        found = NaiveInfluenceFunction(
            case.network, loader(case.train), "only", lambda *_: 1.0,
            loss_fn=nn.CrossEntropyLoss(reduction="sum"), sample_wise_grads_per_batch=True,
            projection_dim=num_parameters, hessian_reg=settings(case).damping * count,
            hessian_inverse_tol=0.0,
        )  # fmt: skip
        return found.influence(case.test).T * count

    return work


SIDES = {"captum: TracInCP": tracin, "captum: NaiveInfluenceFunction": naive}
