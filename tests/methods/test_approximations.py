"""EK-FAC, DataInf, TRAK and projected gradients against plain references in float64."""

import math

import numpy as np
import pytest
import reference
import small_networks
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_vit import adapted_vit, images, shaken
from torch import nn

import bayestda as tda
from bayestda.curvature.filters import flow
from bayestda.errors import UserError
from bayestda.gradients.sample import SampleGradients
from bayestda.methods import trak as trak_file
from bayestda.methods.datainf import datainf
from bayestda.methods.ekfac import ekfac_influence, filtered_ekfac_influence
from bayestda.methods.grad_dot import grad_dot
from bayestda.methods.influence import influence
from bayestda.methods.logra import projected_influence
from bayestda.methods.trak import Projection, mean_product, trak, trak_parts
from bayestda.model.examples import Data
from bayestda.model.measurements import margin
from bayestda.model.parameters import Parameters
from bayestda.training.posterior import select

N, M = 8, 3
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def small(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = small_networks.NETWORKS[name]().double()
    train, test = (small_networks.examples(name, count, seed) for count, seed in ((N, 1), (M, 2)))
    return network, train, test


def lora_vit():
    network = adapted_vit(layers=1)
    select(network, "*lora_B*|*classifier.*")
    y = torch.arange(N + M) % 7
    x = network.prepare(images(N + M))
    data = Data(x, y, np.arange(N + M))
    return network, data.take(slice(N)), data.take(slice(N, N + M))


CASES = {name: lambda name=name: small(name) for name in ("mlp", "tiny_cnn", "sequence_mlp")}
CASES["lora_vit"] = lora_vit


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]()


def sample(network, train, test, objective=None, memory_bytes=1e9):
    return SampleGradients(
        network, objective or tda.Classification(), Parameters(network).read(network),
        train=train, test=test, memory_bytes=memory_bytes,
    )  # fmt: skip


def regression(outputs=1, count=N, targets=None):
    """A network with one hidden layer, and N + M examples with targets [N K], or ``flat``."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, outputs)).double()
    x, y = torch.randn(count + M, 4).double(), torch.randn(count + M, outputs).double()
    y = y[:, 0] if targets == "flat" else y
    data = Data(x, y, np.arange(count + M))
    return network, data.take(slice(count)), data.take(slice(count, count + M))


def layer_columns(network):
    """Of each layer, by name: where its parameters are in θ."""
    places, start = {}, 0
    for name, p in network.named_parameters():
        if p.requires_grad:
            places.setdefault(name.rpartition(".")[0], []).extend(range(start, start + p.numel()))
            start += p.numel()
    return places


def layer_factors(network, layer, data, objective, cotangents):
    """Inputs [T I'] (1 appended for a trained bias) and output gradients [T O]: a pair a vector."""
    found = []
    for j in range(len(data)):
        seen = []
        handle = layer.register_forward_hook(  # goes on with a copy, which may be overwritten
            lambda _, i, o, seen=seen: seen.append((i[0], o)) or o.clone()
        )
        output_1K = reference.one_output(network, objective, data, j)
        handle.remove()
        ((inputs, output),) = seen
        if isinstance(layer, nn.Conv2d):
            inputs = F.unfold(
                inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride
            ).mT
        inputs = inputs.detach().reshape(-1, inputs.shape[-1])
        if not layer.weight.requires_grad:
            inputs = inputs[:, :0]
        if layer.bias is not None and layer.bias.requires_grad:
            inputs = torch.cat([inputs, torch.ones(len(inputs), 1).double()], 1)
        for vector_K in cotangents(output_1K.detach(), data.y[j : j + 1]):
            (delta,) = torch.autograd.grad(output_1K, output, vector_K[None], retain_graph=True)
            delta = delta.flatten(2)[0].T if isinstance(layer, nn.Conv2d) else delta
            found.append((inputs, delta.reshape(-1, delta.shape[-1])))
    return found


def hessian_columns(objective):
    """Columns of a root of the loss's Hessian in the output."""

    def columns(output_1K, y_1):
        in_output = torch.autograd.functional.hessian(
            lambda f: objective.loss(f, y_1)[0], output_1K
        )
        values, vectors = torch.linalg.eigh(in_output[0, :, 0])
        return (vectors * values.clamp(min=0).sqrt()).T

    return columns


def loss_gradient(objective):
    def gradient(output_1K, y_1):
        leaf = output_1K.clone().requires_grad_()
        return torch.autograd.grad(objective.loss(leaf, y_1)[0], leaf)[0]

    return gradient


def theta_order(network, name, weight_then_bias_OI):
    """A layer's gradient [O, I + 1] as it stands in θ: the weights, then the bias."""
    weight = network.get_submodule(name).weight
    size = weight[0].numel() if weight.requires_grad else 0
    return torch.cat(
        [
            weight_then_bias_OI[:, :size].reshape(-1),
            weight_then_bias_OI[:, size:].T[0:1].reshape(-1),
        ]
    )


def dense_ekfac(network, data, objective, cotangents=hessian_columns):
    """Ĉ [P P], block by block."""
    count = sum(p.numel() for p in network.parameters() if p.requires_grad)
    matrix_PP = torch.zeros(count, count, dtype=torch.float64)
    for name, places in layer_columns(network).items():
        layer = network.get_submodule(name)
        pairs = layer_factors(network, layer, data, objective, cotangents(objective))
        inputs = sum(a.T @ a / len(a) for a, _ in pairs)
        outputs = sum(d.T @ d for _, d in pairs)
        basis_i, basis_o = torch.linalg.eigh(inputs)[1], torch.linalg.eigh(outputs)[1]
        squares = sum((basis_o.T @ d.T @ a @ basis_i) ** 2 for a, d in pairs) / len(data)
        directions = [
            (square, theta_order(network, name, torch.outer(o, i)))
            for o, row in zip(basis_o.T, squares, strict=True)
            for i, square in zip(basis_i.T, row, strict=True)
        ]
        block = sum(square * torch.outer(v, v) for square, v in directions)
        matrix_PP[torch.tensor(places)[:, None], torch.tensor(places)] = block
    return matrix_PP


def ekfac_reference(network, train, test, objective, damping):
    train_NP = reference.loss_gradients(network, train, objective)
    test_MP = reference.loss_gradients(network, test, objective, measure=True)
    matrix_PP = dense_ekfac(network, train, objective)
    return reference.influence(train_NP, test_MP, matrix_PP, damping), matrix_PP


@pytest.mark.parametrize("damping", [1e-2, 1.0])
def test_ekfac_is_the_dense_eigenvalue_corrected_matrix(case, damping):
    expected, _ = ekfac_reference(*case, tda.Classification(), damping)
    torch.testing.assert_close(ekfac_influence(sample(*case), damping), expected, **CLOSE)


class Overwritten(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 4)

    def forward(self, x):
        hidden = self.first(x.flatten(1))
        hidden *= 2
        return self.last(torch.tanh(hidden))


def dilated():
    layers = nn.Conv2d(1, 3, 2, dilation=(1, 2)), nn.Tanh(), nn.Flatten(), nn.Linear(6, 4)
    return nn.Sequential(*layers)


@pytest.mark.parametrize(("make", "like"), [(dilated, "tiny_cnn"), (Overwritten, "mlp")])
def test_ekfac_of_dilated_convolutions_and_overwritten_outputs(make, like):
    torch.manual_seed(2)
    case = (make().double(), *small(like)[1:])
    expected, _ = ekfac_reference(*case, tda.Classification(), 0.1)
    torch.testing.assert_close(ekfac_influence(sample(*case), 0.1), expected, **CLOSE)


def test_ekfac_of_the_empirical_fisher(case):
    network, train, test = case
    matrix = dense_ekfac(network, train, tda.Classification(), loss_gradient)
    train_NP, test_MP = (reference.loss_gradients(network, data) for data in (train, test))
    expected = reference.influence(train_NP, test_MP, matrix, 0.1)
    gradients = sample(*case)
    exact = ekfac_influence(gradients, 0.1)
    found = ekfac_influence(gradients, 0.1, curvature="empirical_fisher")
    torch.testing.assert_close(found, expected, **CLOSE)
    assert (found - exact).abs().max() > 1e-3 * exact.abs().max()
    torch.testing.assert_close(ekfac_influence(gradients, 0.1), exact)


def test_ekfac_refuses_an_unknown_curvature():
    with pytest.raises(UserError, match="choose one of gauss_newton, empirical_fisher"):
        ekfac_influence(sample(*small("mlp")), 0.1, curvature="hessian")


@pytest.mark.parametrize(("outputs", "targets"), [(1, "flat"), (1, None), (2, None)])
def test_ekfac_of_regression(outputs, targets):
    parts = regression(outputs, targets=targets)
    expected, _ = ekfac_reference(*parts, tda.Regression(), 0.1)
    found = ekfac_influence(sample(*parts, tda.Regression()), 0.1)
    torch.testing.assert_close(found, expected, **CLOSE)


def test_ekfac_of_two_classes_by_one_logit():
    network, train, test = regression()
    train, test = (Data(part.x, (part.y[:, 0] > 0).double(), part.index) for part in (train, test))
    objective = tda.BinaryClassification()
    expected, _ = ekfac_reference(network, train, test, objective, 0.1)
    found = ekfac_influence(sample(network, train, test, objective), 0.1)
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("name", ["mlp", "tiny_cnn", "sequence_mlp"])
@pytest.mark.parametrize("patterns", ["*weight", "*bias", "0.weight|1.weight|3.bias"])
def test_ekfac_of_layers_whose_weight_or_bias_is_frozen(name, patterns):
    network, train, test = small(name)
    select(network, patterns)
    expected, _ = ekfac_reference(network, train, test, tda.Classification(), 0.1)
    gradients = sample(network, train, test)
    torch.testing.assert_close(ekfac_influence(gradients, 0.1), expected, **CLOSE)
    # Σ s is the trace of the exact matrix, whatever the basis.
    values = [basis.values_OI.sum() for basis in gradients.kept["ekfac gauss_newton"].values()]
    torch.testing.assert_close(sum(values), reference.gauss_newton(network, train).trace(), **CLOSE)


def test_ekfac_is_exact_where_one_example_has_one_output():
    network, train, test = regression(count=1)
    select(network, "2.*")
    gradients = sample(network, train, test, tda.Regression())
    torch.testing.assert_close(ekfac_influence(gradients, 0.1), influence(gradients, 0.1), **CLOSE)


def test_ekfac_takes_any_filter_of_the_eigenvalues():
    parts = small("tiny_cnn")
    _, matrix = ekfac_reference(*parts, tda.Classification(), 1.0)
    values, basis = torch.linalg.eigh(matrix)
    train_NP, test_MP = (reference.loss_gradients(parts[0], data) for data in parts[1:])
    expected = train_NP @ basis @ (flow(3.0)(values)[:, None] * (basis.T @ test_MP.T))
    gradients = sample(*parts)
    found = filtered_ekfac_influence(gradients, flow(3.0))
    torch.testing.assert_close(found, expected, **CLOSE)
    torch.testing.assert_close(filtered_ekfac_influence(gradients, flow(3.0)), found)


def test_ekfac_reads_mappings_and_data_sets():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(6, 4).double()

        def forward(self, left):
            return self.head(left)

    x, y = torch.randn(N, 6).double(), torch.arange(N) % 4
    posterior = tda.Posterior.of_networks({0: [Named()]})
    settings = {"method": "influence_ekfac", "damping": 0.1}
    rows = [{"left": a, "labels": b} for a, b in zip(x, y, strict=True)]
    plain = tda.attribute(posterior, tda.Classification(), (x, y), (x, y), **settings)
    named = tda.attribute(posterior, tda.Classification(), rows, rows, **settings)
    np.testing.assert_allclose(named, plain)
    own = tda.self_influence(posterior, tda.Classification(), (x, y), **settings)
    np.testing.assert_allclose(own[0, 0], np.diag(plain[0, 0]))


@pytest.mark.parametrize("name", ["WithStrangers", "strange_cnn"])
def test_ekfac_names_the_layers_that_it_does_not_cover(name):
    gradients = sample(*small(name))
    with pytest.raises(UserError, match=r"EK-FAC covers .* parameters='.*'") as caught:
        ekfac_influence(gradients, 0.1)
    if name == "WithStrangers":
        assert "not scale, norm.weight, norm.bias, shared.weight of" in str(caught.value)
        assert "parameters='embed.*|head.*'" in str(caught.value)


def test_ekfac_takes_any_loss_with_a_hessian():
    objective = tda.FromLoss(lambda f, y: F.cross_entropy(f, y, reduction="none"))
    found = ekfac_influence(sample(*small("mlp"), objective), 0.1)
    torch.testing.assert_close(found, ekfac_influence(sample(*small("mlp")), 0.1), **CLOSE)


@pytest.mark.parametrize("memory_bytes", [1, 3e3, 3e4])
@pytest.mark.parametrize("curvature", ["gauss_newton", "empirical_fisher"])
def test_ekfac_by_blocks_of_any_size_is_the_same(case, curvature, memory_bytes):
    whole, parted = (sample(*case, memory_bytes=memory) for memory in (1e9, memory_bytes))
    expected = ekfac_influence(whole, 0.1, curvature=curvature)
    found = ekfac_influence(parted, 0.1, curvature=curvature)
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("damping", [None, 0.3])
def test_datainf_is_the_mean_of_explicit_inverses(case, damping):
    network, train, test = case
    train_NP, test_MP = (reference.loss_gradients(network, data) for data in (train, test))
    expected = torch.zeros(N, M, dtype=torch.float64)
    for places in layer_columns(network).values():
        own_Np, test_Mp = train_NP[:, places], test_MP[:, places]
        value = damping or 0.1 * own_Np.square().sum(1).mean() / len(places)
        eye = torch.eye(len(places), dtype=torch.float64)
        inverse = sum(torch.linalg.inv(value * eye + torch.outer(g, g)) for g in own_Np) / N
        expected += own_Np @ inverse @ test_Mp.T
    torch.testing.assert_close(datainf(sample(*case), damping), expected, **CLOSE)


def test_datainf_passes_over_layers_without_gradient_and_refuses_no_damping():
    network, train, test = small("mlp")
    nn.init.zeros_(network[3].weight)  # no gradient reaches the first layer
    found = datainf(sample(network, train, test))
    select(network, "3.*")
    torch.testing.assert_close(found, datainf(sample(network, train, test)))
    with pytest.raises(UserError, match="must be positive"):
        datainf(sample(network, train, test), 0.0)


def signs(gradients, size, seed=0, place=0):
    """The projection [P k] as a matrix."""
    eye = torch.eye(gradients.layout.count, dtype=torch.float64)
    return Projection(gradients, size, seed * 1_000_003 + place)(eye)


def margins(network, data):
    """Gradients of the margin [N P]."""
    return reference.loss_gradients(network, data, tda.Classification(margin), measure=True)


def test_trak_is_the_explicit_least_squares_kernel_times_q(case):
    network, train, test = case
    gradients = sample(*case)
    for size, damping in ((5, 0.0), (N, 0.0), (20, 0.3)):
        matrix_Pk = signs(gradients, size)
        phi_Nk, phi_Mk = (margins(network, data) @ matrix_Pk for data in (train, test))
        gram = phi_Nk.T @ phi_Nk + damping * torch.eye(size).double()
        outputs = torch.cat(
            [reference.one_output(network, tda.Classification(), train, j) for j in range(N)]
        )
        q_N = 1 - outputs.softmax(1)[range(N), train.y]
        expected = phi_Nk @ torch.linalg.inv(gram) @ phi_Mk.T * q_N[:, None]
        torch.testing.assert_close(trak(gradients, size, damping), expected, rtol=1e-6, atol=1e-8)


def test_trak_of_a_linear_regression_is_leave_one_out_but_for_the_leverage():
    torch.manual_seed(0)
    network = nn.Linear(4, 1).double()
    x, y = torch.randn(20 + M, 4).double(), torch.randn(20 + M).double()
    ones = torch.cat([x, torch.ones(20 + M, 1).double()], 1)

    def fitted(rows):
        return torch.linalg.lstsq(ones[rows], y[rows, None]).solution[:, 0]

    theta, everything = fitted(range(20)), Data(x, y, np.arange(20 + M))
    Parameters(network).write(network, theta)
    gradients = sample(
        network, everything.take(slice(20)), everything.take(slice(20, 20 + M)), tda.Regression()
    )
    hat = ones[:20] @ torch.linalg.inv(ones[:20].T @ ones[:20]) @ ones[:20].T
    residual = ones @ theta - y
    regular = (seed for seed in range(50) if signs(gradients, 5, seed).det().abs() > 0.01)
    found = trak(gradients, 5, seed=next(regular))  # a square projection loses nothing
    for j in range(20):
        change = ones[20:] @ (fitted([i for i in range(20) if i != j]) - theta)
        expected = 2 * residual[20:] * change * (1 - hat[j, j])
        torch.testing.assert_close(found[j], expected, **CLOSE)


def test_trak_of_two_classes_is_the_same_with_one_logit_or_two():
    network, train, test = regression()
    train, test = (Data(part.x, (part.y[:, 0] > 0).double(), part.index) for part in (train, test))
    wide = nn.Sequential(network, Doubled())
    one = trak(sample(network, train, test, tda.BinaryClassification()), 6)
    train, test = (Data(part.x, part.y.long(), part.index) for part in (train, test))
    torch.testing.assert_close(trak(sample(wide, train, test), 6), one, **CLOSE)


class Doubled(nn.Module):
    def forward(self, logit):
        return torch.cat([torch.zeros_like(logit), logit], 1)


def test_an_ensemble_of_trak_averages_kernel_and_q_apart():
    network, train, test = small("mlp")
    other = shaken(small("mlp")[0], seed=1)
    posterior = tda.Posterior.of_networks({4: [network, other]})
    found = tda.attribute(
        posterior, tda.Classification(), train, test, method="trak", projection=5, seed=2
    )
    assert found.dims == ("seed", "train", "test")
    parts = [
        trak_parts(sample(each, train, test), 5, seed=2, place=place)
        for place, each in enumerate((network, other))
    ]
    kernel = sum(part.train_Nk @ part.solved_kM for part in parts) / 2
    expected = kernel * (parts[0].weight_N + parts[1].weight_N)[:, None] / 2
    np.testing.assert_allclose(found[0], expected)
    mean_of_products = sum(mean_product([part]) for part in parts) / 2
    assert not torch.allclose(mean_of_products, expected)


def test_the_projection_has_random_signs_and_each_model_its_own():
    gradients = sample(*small("mlp"))
    matrix = signs(gradients, 400)
    assert matrix.abs().mul(20).unique().tolist() == pytest.approx([1.0])
    near = matrix @ matrix.T - torch.eye(len(matrix)).double()
    assert near.abs().max() < 6 / 20  # standard deviation 1/20
    for seed, place in ((1, 0), (0, 1)):
        other = signs(gradients, 400, seed, place)
        assert abs((other * matrix).sum() / len(matrix)) < 6 / math.sqrt(matrix.numel())


def test_a_projection_in_chunks_that_is_not_kept_is_the_same(monkeypatch):
    parts = small("mlp")
    whole = trak(sample(*parts), 5)
    monkeypatch.setattr(trak_file, "CHUNK", 10)
    frugal = sample(*parts, memory_bytes=1)
    assert Projection(frugal, 5, 0)._kept is None
    torch.testing.assert_close(trak(frugal, 5), whole, **CLOSE)


def test_signs_are_those_of_the_published_generator():
    def published(state):  # SplitMix64, with integers of any size
        z = state % 2**64
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ (z >> shift)) * factor % 2**64
        return z ^ (z >> 31)

    gradients, golden = sample(*small("mlp")), 0x9E3779B97F4A7C15
    found = signs(gradients, 40, seed=3) * 40**0.5
    for p, k in ((0, 0), (0, 39), (17, 31), (58, 32)):
        word = published(published(3 * 1_000_003) + (2 * p + k // 32 + 1) * golden)
        assert found[p, k].item() == pytest.approx(2 * (word >> k % 32 & 1) - 1)


@pytest.mark.parametrize(("projection", "message"), [(N + 1, "at most"), (0, "at least one")])
def test_trak_says_which_projection_is_possible(projection, message):
    with pytest.raises(UserError, match=message):
        trak(sample(*small("mlp")), projection)


def test_trak_refuses_a_singular_kernel_and_an_unknown_output_function():
    network, train, test = small("mlp")
    same = Data(train.x[[0] * N], train.y[[0] * N], train.index)
    for dtype in (torch.float64, torch.float32):
        typed = [Data(part.x.to(dtype), part.y, part.index) for part in (same, test)]
        with pytest.raises(UserError, match="singular"):
            trak(sample(network.to(dtype), *typed), 4)
    with pytest.raises(UserError, match="Regression with 2 outputs"):
        trak(sample(*regression(2), tda.Regression()), 4)


def explicit_projection(network, bases):
    """P [P, Σ k²] and the columns of each layer, from bases by layer."""
    count = sum(p.numel() for p in network.parameters() if p.requires_grad)
    columns, blocks, start = [], [], 0
    for name, places in layer_columns(network).items():
        encode, decode = bases[name]
        for d in decode.T:
            for e in encode.T:
                column = torch.zeros(count, dtype=torch.float64)
                column[places] = theta_order(network, name, torch.outer(d, e))
                columns.append(column)
        blocks.append(slice(start, len(columns)))
        start = len(columns)
    return torch.stack(columns, 1), blocks


def block_fisher(train_Nk, blocks):
    matrix = torch.zeros(train_Nk.shape[1], train_Nk.shape[1], dtype=torch.float64)
    for block in blocks:
        matrix[block, block] = train_Nk[:, block].T @ train_Nk[:, block] / len(train_Nk)
    return matrix


def principal(network, train, rank):
    objective, bases = tda.Classification(), {}
    for name in layer_columns(network):
        layer = network.get_submodule(name)
        pairs = layer_factors(network, layer, train, objective, loss_gradient(objective))
        leading = [
            torch.linalg.eigh(sum(f[side].T @ f[side] for f in pairs))[1][:, -rank:]
            for side in (0, 1)
        ]
        bases[name] = tuple(leading)
    return bases


@pytest.mark.parametrize("curvature", ["empirical_fisher", "gauss_newton"])
def test_projected_influence_is_that_of_explicitly_projected_gradients(case, curvature):
    network, train, test = case
    matrix_Pk, blocks = explicit_projection(network, principal(network, train, 2))
    train_Nk, test_Mk = (
        reference.loss_gradients(network, data) @ matrix_Pk for data in (train, test)
    )
    if curvature == "gauss_newton":
        middle = matrix_Pk.T @ reference.gauss_newton(network, train) @ matrix_Pk
    else:
        middle = block_fisher(train_Nk, blocks)
    expected = reference.influence(train_Nk, test_Mk, middle, 0.1)
    found = projected_influence(sample(*case), 0.1, rank=2, init="pca", curvature=curvature)
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("init", ["random", "pca"])
def test_a_full_rank_is_no_projection(case, init):
    network, train, test = case
    gradients = sample(*case)
    found = projected_influence(gradients, 0.1, rank=99, init=init, curvature="gauss_newton")
    torch.testing.assert_close(found, influence(gradients, 0.1), **CLOSE)
    train_NP, test_MP = (reference.loss_gradients(network, data) for data in (train, test))
    fisher = torch.zeros(train_NP.shape[1], train_NP.shape[1], dtype=torch.float64)
    for places in layer_columns(network).values():
        at = torch.tensor(places)
        fisher[at[:, None], at] = train_NP[:, at].T @ train_NP[:, at] / N
    expected = reference.influence(train_NP, test_MP, fisher, 0.1)
    found = projected_influence(gradients, 0.1, rank=99, init=init)
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("name", ["WithStrangers", "strange_cnn"])
def test_parameters_of_other_layers_stay_unprojected(name):
    gradients = sample(*small(name))
    found = projected_influence(gradients, 0.1, rank=99, curvature="gauss_newton")
    torch.testing.assert_close(found, influence(gradients, 0.1), **CLOSE)
    shapes = gradients.kept["logra 99 random 0"].layout.shapes
    strangers = {"WithStrangers": {"scale", "norm.weight"}, "strange_cnn": {"2.weight"}}
    assert strangers[name] <= set(shapes)


def test_random_projections_keep_inner_products_on_average():
    network, train, test = small("mlp")
    gradients = sample(network, train, test)
    inverse = 1 / 1e9  # of a damping so large that scores are inner products
    exact = grad_dot(gradients)
    mean = sum(projected_influence(gradients, 1e9, rank=3, seed=s) for s in range(100)) / 100
    assert (mean / inverse - exact).norm() < 0.3 * exact.norm()


def test_projected_influence_keeps_no_gradient_of_a_layers_own_size():
    network, train, test = small("mlp")
    gradients = sample(network, train, test)
    projected_influence(gradients, 0.1, rank=2)
    rows = next(iter(gradients.kept["logra 2 random 0"].train))[1]
    assert {(block.activation.shape[1], block.delta.shape[2]) for block in rows.values()} == {
        (2, 2)
    }


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"init": "svd"}, {"curvature": "fisher"}])
def test_projected_influence_refuses_unknown_settings(wrong):
    with pytest.raises(UserError, match="must be at least 1"):
        projected_influence(sample(*small("mlp")), 0.1, **wrong)


METHODS = {
    "ekfac": lambda gradients: ekfac_influence(gradients, 0.1),
    "datainf": datainf,
    "trak": lambda gradients: trak(gradients, 5),
    "logra": lambda gradients: projected_influence(gradients, 0.1, rank=2),
    "logra_pca": lambda gradients: projected_influence(gradients, 0.1, rank=2, init="pca"),
}


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**31), memory=st.sampled_from([1, 2e3, 1e4, 1e9]))
def test_order_and_memory_change_nothing_and_copies_of_a_test_example_score_alike(
    method, seed, memory
):
    network, train, test = small("tiny_cnn")
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (
        torch.randperm(N, generator=generator),
        torch.randint(M, (4,), generator=generator),
    )
    plain = METHODS[method](sample(network, train, test))
    moved = sample(network, train.take(rows), test.take(columns), memory_bytes=memory)
    torch.testing.assert_close(
        METHODS[method](moved), plain[rows][:, columns], rtol=1e-6, atol=1e-8
    )
