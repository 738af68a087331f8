"""Every estimator of the library against plain references, on four kinds of networks."""

from functools import partial

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
from tiny_vit import adapted_vit, images, shaken
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import bayestda as tda
from bayestda.curvature.conjugate_gradients import conjugate_gradients
from bayestda.errors import UserError
from bayestda.experiments.networks.pretrained import transformers
from bayestda.gradients.sample import SampleGradients, output_cotangents
from bayestda.methods.grad_dot import grad_dot
from bayestda.model.examples import Data
from bayestda.model.measurements import margin
from bayestda.model.parameters import Parameters
from bayestda.model.precision import matmul_precision
from bayestda.training.posterior import select

N, M = 6, 3
CLOSE = {"rtol": 1e-8, "atol": 1e-10}
DAMPING = 0.3


def mlp():
    network = nn.Sequential(
        nn.Linear(4, 5), nn.LayerNorm(5), nn.ReLU(inplace=True), nn.Linear(5, 3)
    )
    return network, lambda count, seed: normal((count, 4), seed), 3


def cnn():
    network = nn.Sequential(
        nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(12, 3)
    )
    network[1].running_mean.uniform_()
    return network, lambda count, seed: normal((count, 1, 3, 3), seed), 3


def lora_vit():
    network = adapted_vit(layers=1)
    select(network, "*lora_B*|*classifier.bias")
    return network, lambda count, seed: network.prepare(images(count, seed)), 10


def text():
    package = transformers()
    config = package.BertConfig(
        vocab_size=13, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=6, num_labels=3,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = package.BertForSequenceClassification(config)
    select(network, "*embeddings*|*query*|*attention.output*|classifier*")

    def inputs(count, seed):
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(1, 13, (count, 5), generator=generator)
        mask = torch.ones_like(ids)
        mask[::2, 4] = 0
        return {"input_ids": ids, "attention_mask": mask}

    return network, inputs, 3


def normal(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Case:
    def __init__(self, make):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            network, inputs, num_classes = make()
        self.network = shaken(network.double().eval(), seed=5, std=0.2)
        generator = torch.Generator().manual_seed(9)
        targets = torch.randint(0, num_classes, (N + M,), generator=generator)
        self.train = Data(inputs(N, 1), targets[:N], np.arange(N))
        self.test = Data(inputs(M, 2), targets[N:], np.arange(M))
        self.objective = tda.Classification()
        self.train_NP = reference.loss_gradients(self.network, self.train)
        self.test_MP = reference.loss_gradients(self.network, self.test)

    def scores(self, method, **settings):
        posterior = tda.Posterior.of_networks(
            {7: [self.network]}, learning_rates=[0.1], horizons=[3.0]
        )
        found = tda.attribute(
            posterior, self.objective, self.train, self.test, method=method, **settings
        )
        return torch.tensor(found.values).reshape(N, M)


CASES = {f.__name__: f for f in (mlp, cnn, lora_vit, text)}


@pytest.fixture(scope="module", params=sorted(CASES))
def case(request):
    return Case(CASES[request.param])


@pytest.fixture(scope="module")
def gauss_newton(case):
    return reference.gauss_newton(case.network, case.train)


def test_rows_have_the_order_of_theta(case):
    network, layout = case.network, Parameters(case.network)
    sample = SampleGradients(
        network, case.objective, layout.read(network),
        train=case.train, test=case.test, memory_bytes=1e9,
    )  # fmt: skip
    rows = sample.captured(case.train.x, output_cotangents)
    torch.testing.assert_close(
        sample.vectors(rows), reference.jacobian(network, case.train), **CLOSE
    )


def test_grad_dot_and_its_relatives(case):
    products = case.train_NP @ case.test_MP.T
    norms = case.train_NP.norm(dim=1)[:, None] * case.test_MP.norm(dim=1)
    torch.testing.assert_close(case.scores("grad_dot"), products, **CLOSE)
    torch.testing.assert_close(case.scores("grad_cos"), products / norms, **CLOSE)
    torch.testing.assert_close(case.scores("tracin"), products * 0.1, **CLOSE)


@pytest.mark.parametrize("method", ["influence", "influence_cg", "influence_low_rank"])
def test_influence_solves_with_the_gauss_newton_matrix(case, gauss_newton, method):
    expected = reference.influence(case.train_NP, case.test_MP, gauss_newton, DAMPING)
    full_rank = min(int(torch.linalg.matrix_rank(gauss_newton)), len(gauss_newton) - 1)
    settings = {"influence_cg": {"tolerance": 1e-12}, "influence_low_rank": {"rank": full_rank}}
    found = case.scores(method, damping=DAMPING, **settings.get(method, {}))
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


def test_lissa_converges_to_the_solution(case, gauss_newton):
    damping = float(torch.linalg.matrix_norm(gauss_newton, 2)) / 3
    expected = reference.influence(case.train_NP, case.test_MP, gauss_newton, damping)
    found = case.scores(
        "influence_lissa", damping=damping, scale=4 * damping, steps=100, batch_size=N
    )
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_influence_with_the_hessian(case):
    matrix = reference.hessian(case.network, case.train)
    damping = DAMPING - min(0.0, float(torch.linalg.eigvalsh(matrix)[0]))
    expected = reference.influence(case.train_NP, case.test_MP, matrix, damping)
    for method, settings in (
        ("influence_hessian", {}),
        ("influence_cg", {"curvature": "hessian", "tolerance": 1e-12}),
    ):
        found = case.scores(method, damping=damping, **settings)
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


def test_unrolled_filters_are_gradient_descent_and_its_flow(case, gauss_newton):
    rate = 0.9 / float(torch.linalg.matrix_norm(gauss_newton, 2))
    total, step = torch.zeros_like(case.test_MP.T), case.test_MP.T
    for _ in range(13):
        total, step = total + rate * step, step - rate * gauss_newton @ step
    found = case.scores("unrolled", rate=rate, steps=13)
    torch.testing.assert_close(found, case.train_NP @ total, **CLOSE)
    values, basis = torch.linalg.eigh(gauss_newton)
    phi = torch.where(values > 1e-12, -torch.expm1(-3 * values) / values.clamp(min=1e-12), 3.0)
    expected = case.train_NP @ (basis * phi) @ basis.T @ case.test_MP.T
    torch.testing.assert_close(case.scores("flow"), expected, rtol=1e-7, atol=1e-9)


def test_damping_by_the_horizon_is_one_over_it(case):
    found = case.scores("influence", damping="horizon")
    torch.testing.assert_close(found, case.scores("influence", damping=1 / 3.0), **CLOSE)


@pytest.mark.parametrize("more", [0, 50])
def test_a_rank_of_all_parameters_is_the_exact_matrix(more):
    case = Case(mlp)
    matrix = reference.gauss_newton(case.network, case.train)
    expected = reference.influence(case.train_NP, case.test_MP, matrix, DAMPING)
    found = case.scores("influence_low_rank", damping=DAMPING, rank=len(matrix) + more)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_recorded_numbers_may_be_arrays():
    recorded = {name: np.array([0.5, 0.7]) for name in ("learning_rates", "horizons")}
    posterior = tda.Posterior.of_networks({0: [small(), small()]}, **recorded)
    assert posterior.learning_rates == posterior.horizons == (0.5, 0.7)


def test_low_rank_without_complement_is_the_projection_on_leading_eigenvectors():
    case = Case(mlp)
    matrix = reference.gauss_newton(case.network, case.train)
    values, basis = torch.linalg.eigh(matrix)
    leading = basis[:, -4:]
    expected = (case.train_NP @ leading / (values[-4:] + DAMPING)) @ leading.T @ case.test_MP.T
    found = case.scores("influence_low_rank", damping=DAMPING, rank=4, complement=False)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


def test_primal_and_dual_agree():
    network = nn.Linear(3, 2).double()  # P = 8 < N K = 12: primal
    data = Data(normal((N, 3), 1), torch.tensor([0, 1, 0, 1, 1, 0]), np.arange(N))
    posterior = tda.Posterior.of_networks({0: [network]})
    found = tda.attribute(posterior, tda.Classification(), data, data, damping=DAMPING)
    gradients = reference.loss_gradients(network, data)
    matrix = reference.gauss_newton(network, data)
    expected = reference.influence(gradients, gradients, matrix, DAMPING)
    np.testing.assert_allclose(found.values[0, 0], expected, rtol=1e-8)


@pytest.mark.parametrize(
    "objective",
    [
        tda.Regression(),
        tda.FromLoss(lambda f, y: ((f - y) ** 2).mean(1)),
        tda.FromLoss(lambda f, y: torch.nn.functional.huber_loss(f, y, reduction="none").sum(1)),
    ],
    ids=["regression", "squares", "huber"],
)
def test_objectives_of_regression(objective):
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    data = Data(normal((N, 4), 1), 0.2 * normal((N, 2), 2), np.arange(N))
    posterior = tda.Posterior.of_networks({0: [network]})
    found = tda.attribute(posterior, objective, data, data, damping=DAMPING)
    gradients = reference.loss_gradients(network, data, objective)
    matrix = reference.gauss_newton(network, data, objective)
    expected = reference.influence(gradients, gradients, matrix, DAMPING)
    np.testing.assert_allclose(found.values[0, 0], expected, rtol=1e-7, atol=1e-10)


def test_a_binary_logit_is_two_classes_with_one_logit_fixed():
    head = nn.Linear(4, 1).double()

    class TwoClasses(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = head

        def forward(self, x):
            logit = self.head(x)
            return torch.cat([torch.zeros_like(logit), logit], dim=1)

    x, y = normal((N, 4), 1), torch.tensor([0, 1, 1, 0, 1, 0])
    one = tda.attribute(
        tda.Posterior.of_networks({0: [head]}), tda.BinaryClassification(),
        (x, y.double()), (x, y.double()), damping=DAMPING,
    )  # fmt: skip
    two = tda.attribute(
        tda.Posterior.of_networks({0: [TwoClasses()]}), tda.Classification(),
        (x, y), (x, y), damping=DAMPING,
    )  # fmt: skip
    np.testing.assert_allclose(one.values, two.values, rtol=1e-8)


def test_a_measurement_other_than_the_loss():
    case = Case(mlp)
    case.objective = tda.Classification(measurement=margin)
    gradients = reference.loss_gradients(case.network, case.test, case.objective, measure=True)
    torch.testing.assert_close(case.scores("grad_dot"), case.train_NP @ gradients.T, **CLOSE)


def test_representer_points_of_a_stationary_layer_sum_to_its_logits():
    network = nn.Linear(3, 2, bias=False).double()
    x, y = normal((N, 3), 1), torch.tensor([0, 1, 0, 1, 1, 0])
    optimizer = torch.optim.LBFGS(
        network.parameters(), lr=1, max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-16
    )

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(x), y) + 0.05 * network.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    objective = tda.Classification(measurement=lambda f, y: -f.gather(1, y[:, None])[:, 0])
    found = tda.attribute(
        tda.Posterior.of_networks({0: [network]}), objective, (x, y), (x, y),
        method="representer", weight_decay=0.1,
    )  # fmt: skip
    logits = network(x).detach().gather(1, y[:, None])[:, 0]
    np.testing.assert_allclose(found.values[0, 0].sum(0) / N, logits, rtol=1e-6, atol=1e-8)


class Tied(nn.Module):
    """Two layers with one weight, and an output that is overwritten by a function."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.two.weight = self.one.weight

    def forward(self, x):
        hidden = self.one(x)
        hidden.mul_(2).tanh_()
        return self.two(hidden)


def test_shared_and_overwritten_layers():
    network = Tied().double()
    data = Data(normal((N, 4), 1), torch.arange(N) % 4, np.arange(N))
    posterior = tda.Posterior.of_networks({0: [network]})
    found = tda.attribute(posterior, tda.Classification(), data, data, method="grad_dot")
    gradients = reference.loss_gradients(network, data)
    np.testing.assert_allclose(found.values[0, 0], gradients @ gradients.T, rtol=1e-9)


def test_what_vmap_cannot_do_is_done_one_by_one():
    class DataDependent(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4).double())

        def forward(self, x):
            return x * self.scale if x.sum().item() > -100 else x

    network = DataDependent()
    data = Data(normal((N, 4), 1), torch.arange(N) % 4, np.arange(N))
    posterior = tda.Posterior.of_networks({0: [network]})
    with pytest.warns(UserWarning, match="one by one"):
        found = tda.attribute(posterior, tda.Classification(), data, data, method="grad_dot")
    gradients = reference.loss_gradients(network, data)
    np.testing.assert_allclose(found.values[0, 0], gradients @ gradients.T, rtol=1e-9)


def test_a_want_of_memory_is_not_taken_for_something_that_vmap_cannot_do():
    class Full(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4).double())

        def forward(self, x):
            if torch._C._functorch.is_functorch_wrapped_tensor(x):
                raise torch.OutOfMemoryError("Tried to allocate 20.00 GiB")
            return x * self.scale

    data = Data(normal((N, 4), 1), torch.arange(N) % 4, np.arange(N))
    posterior = tda.Posterior.of_networks({0: [Full()]})
    with pytest.raises(torch.OutOfMemoryError):
        tda.attribute(posterior, tda.Classification(), data, data, method="grad_dot")


@pytest.mark.parametrize("score", ["attribute", "self_influence"])
def test_scores_are_taken_in_full_precision_whatever_torch_is_set_to(score, monkeypatch):
    seen, capture = set(), tda.gradients.sample.capture

    def looked(*arguments, **more):
        seen.add((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        return capture(*arguments, **more)

    monkeypatch.setattr(tda.gradients.sample, "capture", looked)
    data = [Data(X, Y, np.arange(N))] * (2 if score == "attribute" else 1)
    posterior = tda.Posterior.of_networks({0: [small()]})
    with matmul_precision(tf32=True):
        getattr(tda, score)(posterior, tda.Classification(), *data, method="grad_dot")
        assert torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32
    assert seen == {(False, False)}


def small():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


X, Y = normal((N, 4), 1), torch.arange(N) % 3


def test_examples_come_as_tensors_arrays_mappings_data_sets_and_loaders():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = small()

        def forward(self, features):
            return self.network(features)

    dataset = TensorDataset(X, Y)
    plain = tda.Posterior.of_networks({0: [small()]})
    named = tda.Posterior.of_networks({0: [Named()]})
    sources = [
        (plain, (X, Y)),
        (plain, (X.numpy(), Y.numpy())),
        (plain, dataset),
        (plain, DataLoader(dataset, batch_size=2, shuffle=True)),
        (named, {"features": X, "labels": Y}),
        (named, [{"features": x, "labels": y} for x, y in dataset]),
    ]
    first, *others = (
        tda.attribute(posterior, tda.Classification(), source, source, damping=DAMPING).values
        for posterior, source in sources
    )
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-12)


class Numbered(IterableDataset):
    """Knows how many examples it has, and cannot give one by number."""

    def __len__(self):
        return N

    def __iter__(self):
        return zip(X, Y, strict=True)


@pytest.mark.parametrize("wrap", [lambda dataset: dataset, lambda dataset: DataLoader(dataset)])
def test_data_sets_that_are_only_gone_through_are_refused(wrap):
    posterior = tda.Posterior.of_networks({0: [small()]})
    with pytest.raises(UserError, match=r"cannot be read by number: give \(x, y\)"):
        tda.attribute(posterior, tda.Classification(), wrap(Numbered()), (X, Y), method="grad_dot")


def test_parameters_by_pattern():
    network = small()
    posterior = tda.Posterior.of_networks({0: [network]})
    settings = {"method": "grad_dot", "parameters": "2.*"}
    found = tda.attribute(posterior, tda.Classification(), (X, Y), (X, Y), **settings)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith("2."))
    gradients = reference.loss_gradients(network, Data(X, Y, np.arange(N)))
    np.testing.assert_allclose(found.values[0, 0], gradients @ gradients.T, rtol=1e-10)


def test_scores_carry_names_and_say_their_sign():
    networks = {446: [small(), small()], 12: [small(), small()]}
    posterior = tda.Posterior.of_networks(networks, checkpoints=[14, 15])
    scores = tda.attribute(
        posterior, tda.Classification(), (X, Y), (X[:2], Y[:2]), method="grad_cos"
    )
    assert scores.dims == ("seed", "checkpoint", "train", "test")
    assert scores["seed"].values.tolist() == [446, 12]
    assert scores["checkpoint"].values.tolist() == [14, 15]
    assert scores["test_label"].values.tolist() == [0, 1]
    assert "positive = helpful" in scores.attrs["sign"]


def test_self_influence_is_the_diagonal_with_the_loss():
    posterior = tda.Posterior.of_networks({0: [small()]})
    objective = tda.Classification(measurement=margin)
    own = tda.self_influence(posterior, objective, (X, Y), damping=DAMPING)
    full = tda.attribute(posterior, tda.Classification(), (X, Y), (X, Y), damping=DAMPING)
    np.testing.assert_allclose(own.values, np.diagonal(full.values, axis1=2, axis2=3), rtol=1e-10)
    assert own.dims == ("seed", "checkpoint", "train") and (own > 0).all()


def test_groups_score_the_sum_of_their_members():
    posterior = tda.Posterior.of_networks({0: [small()]})
    scores = tda.attribute(posterior, tda.Classification(), (X, Y), (X, Y), damping=DAMPING)
    groups = np.zeros((2, N), dtype=bool)
    groups[0, [1, 4]] = groups[1, 2] = True
    summed = tda.group_scores(scores, groups)
    assert summed.dims == ("seed", "checkpoint", "group", "test")
    expected = scores.values[0, 0, 1] + scores.values[0, 0, 4]
    np.testing.assert_allclose(summed.values[0, 0], [expected, scores.values[0, 0, 2]], rtol=1e-12)


def unnormed():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False)).double()


def frozen():
    return small().requires_grad_(False)


def normed_by_hooks():
    """After a forward pass its weight is no leaf, which torch does not copy."""
    network = nn.Sequential(torch.nn.utils.spectral_norm(nn.Linear(4, 3))).double()
    network(X)
    return network


class InfiniteSlope(nn.Module):
    def forward(self, x):
        return x + (x - x).sqrt()


def of_infinite_slope():
    """Finite outputs, gradients that are NaN."""
    return nn.Sequential(nn.Linear(4, 3), InfiniteSlope()).double()


class Root(nn.Module):
    """Outputs of 0 have an infinite slope."""

    def forward(self, x):
        return x.abs().sqrt()


@pytest.mark.parametrize("side", ["train", "test"])
def test_conjugate_gradients_refuse_a_gradient_that_is_not_finite(side):
    posterior = tda.Posterior.of_networks({0: [nn.Sequential(nn.Linear(4, 3, bias=False), Root())]})
    bad, good = (X.index_fill(0, torch.tensor([2]), 0.0), Y), (X, Y)
    sides = (bad, good) if side == "train" else (good, bad)
    with pytest.raises(UserError, match="not finite"):
        tda.attribute(
            posterior, tda.Classification(), *sides, method="influence_cg", damping=DAMPING
        )


def test_conjugate_gradients_solve_what_is_finite_beside_what_is_not():
    matrix_PP = torch.tensor([[2.0, 1.0], [1.0, 3.0]]).double()
    right_VP = torch.tensor([[1.0, 0.0], [torch.nan, 0.0], [1.0, 2.0], [torch.inf, 1.0]]).double()
    found_VP = conjugate_gradients(lambda v: v @ matrix_PP, right_VP, 1e-12, 10)
    expected_VP = torch.linalg.solve(matrix_PP, right_VP[::2].T).T
    torch.testing.assert_close(found_VP[::2], expected_VP, **CLOSE)
    assert found_VP[1::2].isnan().all()


def scaled(g, factor=1.0):
    """A method of one's own."""
    return factor * grad_dot(g)


class Negated:
    def __call__(self, g):
        return -grad_dot(g)


@pytest.mark.parametrize(
    ("method", "settings", "name", "factor"),
    [
        (scaled, {}, "scaled", 1.0),
        (scaled, {"factor": 3.0}, "scaled", 3.0),
        (partial(scaled, factor=2.0), {}, "scaled", 2.0),
        (partial(partial(scaled, factor=2.0), factor=4.0), {"factor": 5.0}, "scaled", 5.0),
        (Negated(), {}, "Negated", -1.0),
    ],
)
def test_methods_of_your_own_name_their_arguments_as_they_like(method, settings, name, factor):
    asked = (tda.Posterior.of_networks({0: [small()]}), tda.Classification(), (X, Y), (X, Y))
    found = tda.attribute(*asked, method=method, **settings)
    expected = tda.attribute(*asked, method="grad_dot")
    np.testing.assert_allclose(found.values, factor * expected.values, rtol=1e-12)
    assert found.name == name


def test_what_a_partial_gives_is_not_asked_of_the_training():
    asked = (tda.Posterior.of_networks({0: [small()]}), tda.Classification(), (X, Y), (X, Y))
    found = tda.attribute(*asked, method=partial(tda.METHODS["flow"].function, horizon=2.0))
    expected = tda.attribute(*asked, method="flow", horizon=2.0)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_networks_in_half_precision_are_refused(dtype):
    posterior = tda.Posterior.of_networks({0: [small().to(dtype)]})
    with pytest.raises(UserError, match=r"parameters are b?float16: .* network.float\(\)"):
        tda.attribute(posterior, tda.Classification(), (X, Y), (X, Y), method="grad_dot")


def test_a_device_without_float64_is_refused(monkeypatch):
    def refused(_):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    posterior = tda.Posterior.of_networks({0: [small().float()]})
    monkeypatch.setattr(torch.Tensor, "double", refused)
    with pytest.raises(UserError, match="has no float64, in which losses are taken"):
        tda.attribute(posterior, tda.Classification(), (X, Y), (X, Y), method="grad_dot")


WEIGHT_K = torch.tensor([1.0, 2.0, 0.5])
LOSSES = {
    "class weights": lambda f, y: F.cross_entropy(f, y, WEIGHT_K.to(f), reduction="none"),
    "targets": lambda f, y: F.binary_cross_entropy(f.sigmoid(), y, reduction="none").sum(1),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_your_own_on_a_network_in_float32(name):
    network, objective = small().float(), tda.FromLoss(LOSSES[name])
    targets = {"class weights": Y, "targets": (X[:, :3] > 0).float()}[name]
    asked = [Data(X.float(), targets, np.arange(N))] * 2
    posterior = tda.Posterior.of_networks({0: [network]})
    found = tda.attribute(posterior, objective, *asked, method="grad_dot")
    wide = Data(X.float().double(), targets, np.arange(N))
    gradients = reference.loss_gradients(network.double(), wide, objective)
    np.testing.assert_allclose(found.values[0, 0], gradients @ gradients.T, rtol=1e-4, atol=1e-5)


WRONG = {
    "no parameter of the network requires a gradient": ({"networks": frozen}, {}),
    "matches none of": ({}, {"parameters": "decoder.*"}),
    "unknown: choose one of": ({}, {"method": "shapley"}),
    "takes no 'dampnig'": ({}, {"dampnig": 1.0}),
    "needs damping=": ({}, {"damping": None}),
    "horizon is not known": ({}, {"damping": "horizon"}),
    "cannot be copied, .*: use those of torch.nn.utils.parametrizations": (
        {"networks": normed_by_hooks}, {},
    ),
    "no running statistics": ({"networks": unnormed}, {}),
    "is not finite": ({"x": X.index_fill(0, torch.tensor([2]), torch.nan)}, {}),
    "cannot be decomposed": (
        {"networks": of_infinite_slope}, {"method": "flow", "horizon": 2.0, "damping": None},
    ),
    r"is not finite \(seed 0": (
        {"networks": of_infinite_slope}, {"method": "grad_dot", "damping": None},
    ),
    "different lengths": ({"y": Y[:-1]}, {}),
    "are empty": ({"x": X[:0], "y": Y[:0]}, {}),
    "reduction='none'": ({"objective": tda.FromLoss(nn.functional.cross_entropy)}, {}),
    r"a loss or measurement does not take outputs f in float64 \(.*w.to\(f\)": (
        {"objective": tda.FromLoss(lambda f, y: F.cross_entropy(f, y, WEIGHT_K, reduction="none"))},
        {},
    ),
    r"a loss or measurement .*same dtype": (
        {"objective": tda.Classification(measurement=lambda f, _: f @ WEIGHT_K)}, {},
    ),
    "not positive definite": (
        {}, {"method": "influence_cg", "curvature": "hessian", "damping": -5.0},
    ),
    "give a positive damping, or complement=False": (
        {}, {"method": "influence_low_rank", "rank": 2, "damping": 0.0},
    ),
    "have not converged": ({}, {"method": "influence_cg", "max_steps": 1}),
}  # fmt: skip


@pytest.mark.parametrize("message", sorted(WRONG))
def test_what_users_get_wrong(message):
    changed, settings = WRONG[message]
    networks = changed.get("networks", small)
    source = (changed.get("x", X), changed.get("y", Y))
    settings = {"damping": DAMPING} | settings
    if settings["damping"] is None or settings.get("method") == "shapley":
        settings.pop("damping")
    with pytest.raises(UserError, match=message):
        tda.attribute(
            tda.Posterior.of_networks({0: [networks()]}),
            changed.get("objective", tda.Classification()),
            source, (X, Y), **settings,
        )  # fmt: skip
