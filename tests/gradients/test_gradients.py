"""Gradients, rows and the Gauss-Newton dual against explicit autograd in float64."""

import pytest
import torch
from small_networks import examples
from torch.autograd.functional import hessian  # jacrev of jacrev is wrong for layer norm
from torch.func import functional_call, jacrev

from bayestda.curvature.filters import ridge
from bayestda.curvature.gauss_newton import GaussNewton
from bayestda.gradients.sample import SampleGradients
from bayestda.methods.grad_cos import grad_cos
from bayestda.methods.grad_dot import grad_dot
from bayestda.methods.influence import filtered_influence, influence
from bayestda.methods.lissa import Lissa, lissa_influence
from bayestda.model.losses import Classification
from bayestda.model.parameters import Parameters

N, M = 7, 4


@pytest.fixture
def gradients(network, network_name):
    return sample_gradients(network, network_name)


def sample_gradients(network, network_name, memory_bytes=1e9):
    return SampleGradients(
        network,
        Classification(),
        Parameters(network).read(network),
        train=examples(network_name, N, seed=1),
        test=examples(network_name, M, seed=2),
        memory_bytes=memory_bytes,
    )


def output_of(network, x):
    layout = Parameters(network)
    return lambda theta: functional_call(network, layout.split(theta), (x,))


def explicit_loss_gradients(network, data):
    theta = Parameters(network).read(network)
    rows = []
    for x, y in zip(data.x, data.y, strict=True):
        f = output_of(network, x[None])
        rows.append(
            jacrev(lambda theta, f=f, y=y: Classification().loss(f(theta), y[None])[0])(theta)
        )
    return torch.stack(rows)


def explicit_gauss_newton(network, data):
    theta = Parameters(network).read(network)
    curvature = torch.zeros(len(theta), len(theta), dtype=theta.dtype)
    for x, y in zip(data.x, data.y, strict=True):
        f = output_of(network, x[None])
        jacobian = jacrev(lambda theta, f=f: f(theta)[0])(theta)
        in_output = jacrev(jacrev(lambda o, y=y: Classification().loss(o[None], y[None])[0]))(
            f(theta)[0].detach()
        )
        curvature += jacobian.T @ in_output @ jacobian / len(data.y)
    return curvature


def test_grad_dot_is_the_product_of_explicit_gradients(gradients, network):
    train = explicit_loss_gradients(network, gradients.train_data)
    test = explicit_loss_gradients(network, gradients.test_data)
    torch.testing.assert_close(grad_dot(gradients), train @ test.T, rtol=1e-10, atol=1e-12)


def test_grad_cos_is_the_explicit_cosine(gradients, network):
    train = explicit_loss_gradients(network, gradients.train_data)
    test = explicit_loss_gradients(network, gradients.test_data)
    expected = torch.cosine_similarity(train[:, None], test[None], dim=-1)
    torch.testing.assert_close(grad_cos(gradients), expected, rtol=1e-10, atol=1e-12)


def test_influence_solves_the_explicit_damped_gauss_newton_system(gradients, network):
    curvature = explicit_gauss_newton(network, gradients.train_data)
    train = explicit_loss_gradients(network, gradients.train_data)
    test = explicit_loss_gradients(network, gradients.test_data)
    for damping in (1e-3, 0.1, 10.0):
        solved = torch.linalg.solve(curvature + damping * torch.eye(len(train.T)).double(), test.T)
        expected = train @ solved
        direct = influence(gradients, damping)
        spectral = filtered_influence(gradients, ridge(damping))
        torch.testing.assert_close(direct, expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(spectral, expected, rtol=1e-9, atol=1e-12)


def test_eigenvalues_are_those_of_the_explicit_matrix(gradients, network):
    explicit = torch.linalg.eigvalsh(explicit_gauss_newton(network, gradients.train_data))
    dual = GaussNewton.of(gradients).spectrum[0]
    count = min(len(explicit), len(dual))
    torch.testing.assert_close(dual[-count:], explicit[-count:], rtol=1e-9, atol=1e-11)


def test_little_memory_changes_nothing(network, network_name, gradients):
    frugal = sample_gradients(network, network_name, memory_bytes=1)
    assert frugal.test.block == 1
    torch.testing.assert_close(grad_dot(frugal), grad_dot(gradients), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(
        influence(frugal, 0.1), influence(gradients, 0.1), rtol=1e-9, atol=1e-12
    )


def test_confident_predictions_keep_their_gradient_in_the_span():
    output = torch.tensor([[60.0, 0, 0], [0, 0, -60], [1, 2, 3]], dtype=torch.float64)
    y = torch.tensor([0, 2, 1])
    root = Classification().hessian_root(output, y)
    c = Classification().gradient_in_root(output, y)
    expected = output.softmax(-1) - torch.eye(3)[y]
    torch.testing.assert_close((root @ c[..., None])[..., 0], expected, rtol=1e-9, atol=1e-15)


def test_lissa_on_the_training_side_equals_the_recursion_on_each_test_gradient(network, gradients):
    settings = Lissa(damping=0.02, scale=30.0, batch_size=3, steps=5)
    layout, theta = Parameters(network), Parameters(network).read(network)
    data = gradients.train_data
    train = explicit_loss_gradients(network, data)
    test = explicit_loss_gradients(network, gradients.test_data)
    batches = list(torch.arange(N).split(3))
    v = test
    for step in range(5):
        batch = batches[step % len(batches)]

        def mean_loss(theta, batch=batch):
            output = functional_call(network, layout.split(theta), (data.x[batch],))
            return Classification().loss(output, data.y[batch]).mean()

        v = test + (1 - settings.damping) * v - v @ hessian(mean_loss, theta) / 30.0
    expected = train @ v.T / 30.0
    scores = lissa_influence(gradients, settings)
    torch.testing.assert_close(scores, expected, rtol=1e-9, atol=1e-12)
