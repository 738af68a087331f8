"""Plain references in float64: every gradient, Jacobian and curvature matrix formed one by one."""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from bayestda.model.inputs import rows_of
from bayestda.model.losses import Classification


def leaves(network):
    return [p for p in network.parameters() if p.requires_grad]


def flat(gradients, like):
    filled = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, like, strict=True)]
    return torch.cat([g.reshape(-1) for g in filled])


def gradient(value, network, **kwargs):
    found = torch.autograd.grad(value, leaves(network), allow_unused=True, **kwargs)
    return flat(found, leaves(network))


def one_output(network, objective, data, j):
    return objective.output(network, rows_of(data.x, slice(j, j + 1)))


def loss_gradients(network, data, objective=None, measure=False):
    """∇L [N P], or ∇g."""
    objective = objective or Classification()
    value = objective.measure if measure else objective.loss
    return torch.stack(
        [
            gradient(value(one_output(network, objective, data, j), data.y[j : j + 1])[0], network)
            for j in range(len(data))
        ]
    )


def jacobian(network, data, objective=None):
    """∇f [N K P]."""
    objective = objective or Classification()
    rows = []
    for j in range(len(data)):
        output_K = one_output(network, objective, data, j)[0]
        rows.append(torch.stack([gradient(f, network, retain_graph=True) for f in output_K]))
    return torch.stack(rows)


def gauss_newton(network, data, objective=None):
    """(1/N) Σ JᵀSJ [P P], S by autograd."""
    objective = objective or Classification()
    total = 0.0
    for j, jacobian_KP in enumerate(jacobian(network, data, objective)):
        output_1K = one_output(network, objective, data, j).detach()
        in_output = torch.autograd.functional.hessian(
            lambda f, j=j: objective.loss(f, data.y[j : j + 1])[0], output_1K
        )[0, :, 0]
        total = total + jacobian_KP.T @ in_output @ jacobian_KP / len(data)
    return total


def hessian(network, data, objective=None):
    """Hessian [P P] of the mean loss, row by row."""
    objective = objective or Classification()
    with sdpa_kernel(SDPBackend.MATH):
        return _hessian(network, data, objective)


def _hessian(network, data, objective):
    loss = torch.stack(
        [
            objective.loss(one_output(network, objective, data, j), data.y[j : j + 1])[0]
            for j in range(len(data))
        ]
    ).mean()
    first = torch.autograd.grad(loss, leaves(network), create_graph=True)
    first = torch.cat([g.reshape(-1) for g in first])
    return torch.stack([gradient(g, network, retain_graph=True) for g in first])


def influence(train_NP, test_MP, matrix_PP, damping):
    eye = torch.eye(len(matrix_PP), dtype=matrix_PP.dtype)
    return train_NP @ torch.linalg.solve(matrix_PP + damping * eye, test_MP.T)
