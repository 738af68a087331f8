"""Methods of networks that vmap or double backward passes do not go through, or wrongly."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from odd_networks import ODD, odd, odd_examples
from reference import gauss_newton, influence, loss_gradients
from torch.func import functional_call

import bayestda as tda
from bayestda.model.parameters import Parameters, private_copy

pytestmark = [
    pytest.mark.filterwarnings("ignore:gradients of .* one by one"),
    pytest.mark.filterwarnings("ignore:There is a performance drop"),
]
NAMES = [name for name in ODD if name != "scalars"]


def scores(network, train, test, method, **settings):
    posterior = tda.Posterior.of_networks({0: [network]})
    pairs = [(data.x, data.y) for data in (train, test)]
    found = tda.attribute(posterior, tda.Classification(), *pairs, method=method, **settings)
    return found.values[0, 0]


@pytest.mark.parametrize("name", NAMES)
def test_influence_is_that_of_explicit_matrices(name):
    network = odd(name)
    train, test = odd_examples(name, 5, seed=1), odd_examples(name, 3, seed=2)
    dense = private_copy(network)
    matrix_PP = gauss_newton(dense, train)
    sides = loss_gradients(dense, train), loss_gradients(dense, test)
    wanted = influence(*sides, matrix_PP, 0.3)
    for method, settings in (("influence", {}), ("influence_cg", {"tolerance": 1e-12})):
        found = scores(network, train, test, method, damping=0.3, **settings)
        np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-9 * float(wanted.abs().max()))


def hessian(network, x, y):
    """By central differences of the gradient."""
    layout = Parameters(network)
    theta_P = layout.read(network)

    def gradient(own_P):
        own_P = own_P.clone().requires_grad_()
        output = functional_call(network, layout.split(own_P), (x,))
        return torch.autograd.grad(F.cross_entropy(output, y), own_P)[0]

    steps_PP = 1e-5 * torch.eye(len(theta_P), dtype=theta_P.dtype)
    rows = [(gradient(theta_P + v) - gradient(theta_P - v)) / 2e-5 for v in steps_PP]
    return torch.stack(rows)


@pytest.mark.parametrize("name", NAMES)
def test_proposition_1_is_that_of_differences_of_gradients(name):
    network = odd(name)
    train, test = odd_examples(name, 3, seed=1), odd_examples(name, 2, seed=2)
    found = scores(network, train, test, "proposition_1", damping=20.0, tolerance=1e-12)
    dense = private_copy(network)
    train_NP, test_MP = loss_gradients(dense, train), loss_gradients(dense, test)
    each_NPP = torch.stack([hessian(dense, train.x[[n]], train.y[[n]]) for n in range(3)])
    damped_PP = each_NPP.mean(0) + 20 * torch.eye(len(each_NPP[0]), dtype=torch.float64)
    delta_P = -torch.linalg.solve(damped_PP, train_NP.mean(0))
    wanted = (train_NP + each_NPP @ delta_P) @ torch.linalg.solve(damped_PP, test_MP.T)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7 * float(wanted.abs().max()))
