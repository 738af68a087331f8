"""Products with curvature matrices of networks that not every way of PyTorch goes through."""

import pytest
import torch
import torch.nn.functional as F
from odd_networks import ODD, odd, odd_examples
from reference import gauss_newton, jacobian
from torch import nn
from torch.func import functional_call

from bayestda.curvature.vector_products import (
    example_hessian_products,
    gauss_newton_products,
    hessian_products,
)
from bayestda.errors import UserError
from bayestda.gradients.sample import SampleGradients
from bayestda.model.losses import Classification
from bayestda.model.parameters import Parameters, private_copy

# Rows of some of the networks are made one by one, and slowly, which is said.
pytestmark = [
    pytest.mark.filterwarnings("ignore:gradients of .* one by one"),
    pytest.mark.filterwarnings("ignore:There is a performance drop"),
]


def sample(network, data, objective=None):
    return SampleGradients(
        network, objective or Classification(), Parameters(network).read(network),
        train=data, test=data, memory_bytes=1e9,
    )  # fmt: skip


def gradient(network, theta_P, x, y):
    theta_P = theta_P.clone().requires_grad_()
    output = functional_call(network, Parameters(network).split(theta_P), (x,))
    return torch.autograd.grad(F.cross_entropy(output, y), theta_P)[0]


def hessian(network, x, y):
    """By central differences of the gradient."""
    theta_P = Parameters(network).read(network)
    rows = [
        (gradient(network, theta_P + v, x, y) - gradient(network, theta_P - v, x, y)) / 2e-5
        for v in 1e-5 * torch.eye(len(theta_P), dtype=theta_P.dtype)
    ]
    return torch.stack(rows)


def close(found, wanted, tolerance=1e-7):
    return (found - wanted).norm() <= tolerance * wanted.norm()


@pytest.mark.parametrize("name", ODD)
def test_products_with_the_hessian_are_differences_of_gradients(name):
    network, data = odd(name), odd_examples(name, 5, seed=1)
    network = private_copy(network)  # whose gradients are dense
    eye_PP = torch.eye(Parameters(network).count, dtype=torch.float64)
    found = hessian_products(sample(network, data), data)(eye_PP)
    assert close(found, hessian(network, data.x, data.y))


@pytest.mark.parametrize("name", ODD)
def test_products_with_the_gauss_newton_matrix_are_those_of_its_jacobian(name):
    network, data = private_copy(odd(name)), odd_examples(name, 5, seed=1)
    eye_PP = torch.eye(Parameters(network).count, dtype=torch.float64)
    found = gauss_newton_products(sample(network, data), data)(eye_PP)
    assert close(found, gauss_newton(network, data))


@pytest.mark.parametrize("name", [name for name in ODD if name != "scalars"])
def test_products_with_each_examples_hessian_are_differences_of_its_gradient(name):
    network, data = private_copy(odd(name)), odd_examples(name, 3, seed=2)
    vector_P = torch.randn(Parameters(network).count, dtype=torch.float64)
    found = torch.cat(list(example_hessian_products(sample(network, data), vector_P)))
    wanted = [hessian(network, data.x[[b]], data.y[[b]]) @ vector_P for b in range(3)]
    assert close(found, torch.stack(wanted))


class Halved(torch.autograd.Function):
    """A function whose own backward pass counts as constant, as of many extensions."""

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x.square() / 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, grad_output):
        return grad_output * context.saved_tensors[0]


class Extended(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(3, 2), nn.Linear(2, 3)

    def forward(self, x):
        return self.head(Halved.apply(self.first(x.mean(1))))


def test_a_layer_without_second_derivative_has_a_gauss_newton_matrix():
    network, data = Extended().double(), odd_examples("extended", 5, seed=1)
    vectors_VP = torch.randn(2, Parameters(network).count, dtype=torch.float64)
    wanted = vectors_VP @ gauss_newton(network, data)
    gradients = sample(network, data)
    assert close(gauss_newton_products(gradients, data)(vectors_VP), wanted)
    little = sample(network, data)
    little.memory_bytes = 1  # rows are formed anew, one example at a time
    assert close(gauss_newton_products(little, data)(vectors_VP), wanted)
    assert jacobian(network, data).abs().sum() > 0


def test_a_layer_without_second_derivative_has_no_hessian_that_would_be_wrong():
    network, data = Extended().double(), odd_examples("extended", 5, seed=1)
    gradients = sample(network, data)
    with pytest.raises(UserError, match="use a method without the Hessian"):
        hessian_products(gradients, data)
    with pytest.raises(UserError, match="use a method without the Hessian"):
        next(example_hessian_products(gradients, gradients.theta_P))
