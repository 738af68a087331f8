"""Several methods and dampings in one pass give what separate calls give."""

import numpy as np
import pytest
import reference
import torch
import xarray as xr
from torch import nn

import bayestda as tda
from bayestda.errors import UserError
from bayestda.gradients import sample
from bayestda.gradients.sample import SampleGradients
from bayestda.model.examples import Data
from bayestda.model.parameters import Parameters
from bayestda.scores.scoring import sample_scores

N, M = 8, 5
DAMPINGS = [1e-3, 0.03, 1.0]
TAKE_DAMPING = {
    "influence": {}, "influence_hessian": {}, "influence_cg": {"tolerance": 1e-13},
    "influence_low_rank": {"rank": 9}, "influence_ekfac": {}, "influence_projected": {"rank": 3},
    "generalised": {}, "near_stationary": {},
    "proposition_1": {"tolerance": 1e-13, "curvature": "gauss_newton"},
    "trak": {"projection": 6}, "datainf": {},
}  # fmt: skip


def data(count, seed):
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Data(x, torch.arange(count) % 3, np.arange(count))


def network(seed, width=5):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 3)).double()


TRAIN, TEST = data(N, 1), data(M, 2)
NETWORKS = {5: [network(0), network(1)], 3: [network(2), network(3)]}
POSTERIOR = tda.Posterior.of_networks(NETWORKS, learning_rates=[0.1, 0.2], horizons=[1.0, 2.0])
ASKED = (POSTERIOR, tda.Classification(), TRAIN, TEST)


def score(method, **settings):
    return tda.attribute(*ASKED, method=method, **settings)


def test_a_pass_over_several_methods_is_that_of_each_alone_to_the_bit():
    names = ["grad_dot", "grad_cos", "tracin", "influence", "flow", "trak", "generalised"]
    together = score(names, damping=0.1, projection=6)
    assert isinstance(together, xr.Dataset) and list(together) == names
    takes = {"influence": {"damping": 0.1}, "generalised": {"damping": 0.1}}
    takes["trak"] = {"damping": 0.1, "projection": 6}
    for name in names:
        xr.testing.assert_identical(together[name], score(name, **takes.get(name, {})))


@pytest.mark.parametrize("method", TAKE_DAMPING)
def test_dampings_of_a_list_are_those_of_separate_calls(method):
    settings = TAKE_DAMPING[method]
    dampings = [value + 0.5 for value in DAMPINGS]
    together = score(method, damping=dampings, **settings)
    assert together.dims[0] == "damping"
    np.testing.assert_array_equal(together["damping"], dampings)
    for damping in dampings:
        alone = score(method, damping=damping, **settings)
        assert together.dims[1:] == alone.dims
        found = together.sel(damping=damping).values
        assert np.abs(found - alone.values).max() <= 1e-9 * np.abs(alone.values).max()


@pytest.mark.parametrize("width", [5, 1])  # dual, and primal: 43 and 11 parameters, N K = 24
def test_influence_of_several_dampings_solves_with_the_gauss_newton_matrix(width):
    model = network(0, width)
    train_NP, test_MP = (reference.loss_gradients(model, part) for part in (TRAIN, TEST))
    matrix_PP = reference.gauss_newton(model, TRAIN)
    posterior = tda.Posterior.of_networks({0: [model]})
    found = tda.attribute(posterior, tda.Classification(), TRAIN, TEST, damping=DAMPINGS)
    for damping, scores in zip(DAMPINGS, found.values, strict=True):
        expected = reference.influence(train_NP, test_MP, matrix_PP, damping)
        np.testing.assert_allclose(scores[0, 0], expected, rtol=1e-7, atol=1e-9)


def test_a_single_training_example_of_one_output_has_several_dampings_too():
    x = torch.ones(1, 2, dtype=torch.float64)
    posterior = tda.Posterior.of_networks({0: [nn.Linear(2, 1).double()]})
    asked = (posterior, tda.Regression(), (x, x[:, :1]), (2 * x, x[:, :1]))
    found = tda.attribute(*asked, damping=DAMPINGS)
    for damping in DAMPINGS:
        alone = tda.attribute(*asked, damping=damping)
        np.testing.assert_allclose(found.sel(damping=damping), alone, rtol=1e-9)


def test_methods_without_a_damping_ignore_it_among_others():
    found = score(["grad_dot", "tracin", "influence"], damping=[0.1, 1.0])
    assert found["grad_dot"].dims == ("seed", "checkpoint", "train", "test")
    assert found["tracin"].dims == ("seed", "train", "test")
    assert found["influence"].dims == ("damping", "seed", "checkpoint", "train", "test")
    xr.testing.assert_identical(found["grad_dot"].drop_vars("damping", errors="ignore"),
                                score("grad_dot"))  # fmt: skip


def test_the_horizon_may_be_among_the_dampings():
    found = score("influence", damping=["horizon", 0.5])
    assert found["damping"].values.tolist() == ["horizon", "0.5"]
    for place, horizon in enumerate(POSTERIOR.horizons):
        alone = score("influence", damping=1 / horizon).isel(checkpoint=place)
        both = found.sel(damping="horizon").isel(checkpoint=place)
        np.testing.assert_allclose(both.values, alone.values, rtol=1e-9, atol=1e-13)


def test_one_damping_of_a_list_is_solved_as_alone():
    found = score("influence", damping=[0.1])
    assert found.dims[0] == "damping"
    np.testing.assert_array_equal(found.values[0], score("influence", damping=0.1).values)


def test_gradients_are_captured_and_the_matrix_is_decomposed_once_a_sample(monkeypatch):
    captured, decomposed = [], []
    capture, eigh = sample.capture, torch.linalg.eigh
    monkeypatch.setattr(
        sample, "capture", lambda *a, **k: captured.append(len(a[2])) or capture(*a, **k)
    )
    monkeypatch.setattr(torch.linalg, "eigh", lambda a: decomposed.append(len(a)) or eigh(a))
    names = ["grad_dot", "grad_cos", "influence", "flow", "unrolled", "generalised"]
    score(names, damping=DAMPINGS, rate=0.1, steps=3)
    num_samples = 2 * 2
    one_to_know_its_size = 1
    blocks = N + N + M + 3 * one_to_know_its_size  # train, Jacobian, test
    assert sum(captured) == num_samples * blocks
    assert decomposed.count(2 * N) == num_samples  # of three classes, one without curvature


def test_a_file_of_several_arrays_holds_those_in_memory(tmp_path):
    names, settings = ["grad_dot", "influence", "tracin", "trak"], {"damping": DAMPINGS}
    whole = score(names, projection=6, **settings)
    path = tmp_path / "scores.nc"
    streamed = score(names, projection=6, output=path, memory_gb=1e-4, **settings)
    with xr.open_dataset(path) as read:
        assert list(read) == list(streamed) == names
        for name in names:
            assert read[name].dims == whole[name].dims
            assert whole[name].attrs.items() <= read[name].attrs.items()
            np.testing.assert_allclose(read[name].values, whole[name].values, rtol=1e-7, atol=1e-9)
    streamed.close()
    with pytest.raises(UserError, match="open_dataset"):
        score(names, output=path, projection=6, **settings)


def test_self_influence_of_several_methods_is_their_diagonal():
    names = ["influence", "grad_dot", "tracin"]
    whole = tda.attribute(*ASKED[:3], TRAIN, method=names, damping=DAMPINGS)
    own = tda.self_influence(*ASKED[:3], method=names, damping=DAMPINGS, memory_gb=1e-4)
    for name in names:
        assert own[name].dims == (*whole[name].dims[:-2], "train")
        diagonal = np.diagonal(whole[name].values, axis1=-2, axis2=-1)
        np.testing.assert_allclose(own[name].values, diagonal, rtol=1e-7, atol=1e-10)


def test_scores_of_one_sample_are_those_of_attribute():
    model = NETWORKS[5][1]
    gradients = SampleGradients(
        model, tda.Classification(), Parameters(model).read(model),
        train=TRAIN, test=TEST, memory_bytes=1e9,
    )  # fmt: skip
    names = ["grad_cos", "influence", "flow", "trak"]
    settings = {"damping": [0.1, "horizon"], "projection": 6}
    found = sample_scores(gradients, names, settings, {"horizon": 2.0, "place": 0})
    expected = score(names[:3], damping=[0.1, "horizon"])
    for name in names[:3]:
        wanted = expected[name].isel(seed=0, checkpoint=1).values
        np.testing.assert_array_equal(found[name].numpy(), wanted)
    alone = tda.Posterior.of_networks({0: [model]})
    trak = tda.attribute(alone, *ASKED[1:], method="trak", damping=0.1, projection=6)
    np.testing.assert_array_equal(found["trak"][0].numpy(), trak.values[0])
    assert found["trak"].shape == (2, N, M)
    with pytest.raises(UserError, match="learning rates are not known"):
        sample_scores(gradients, ["tracin"])


def mean_product(gradients, power=1.0):
    return (gradients.vectors(next(iter(gradients.train))[1])[:, 0] @ torch.ones(
        gradients.layout.count, M, dtype=torch.float64)) * power  # fmt: skip


def test_a_function_among_names_has_its_own_name():
    found = score([mean_product, "grad_dot"], power=2.0)
    assert list(found) == ["mean_product", "grad_dot"]
    np.testing.assert_array_equal(found["mean_product"].values, 2 * score(mean_product).values)


@pytest.mark.parametrize(
    ("method", "settings", "why"),
    [
        ("influence", {}, "needs damping=: damping=0.1 .* damping='horizon' for a recorded run"),
        ("grad_dot", {"damping": [0.1]}, "grad_dot takes no 'damping'"),
        (["grad_dot", "grad_cos"], {"damping": 0.1}, "no method of grad_dot, grad_cos takes 'dam"),
        (["influence", "flow"], {"damping": 0.1, "rank": 3}, "takes 'rank'"),
        (["grad_dot", "grad_dot"], {}, "'grad_dot' twice"),
        ([], {}, "has no method"),
        ("influence", {"damping": []}, "give one or more dampings"),
        ("influence", {"damping": [0.1, 0.1]}, "each once"),
        ("influence", {"damping": [0.1, "horizont"]}, "damping has 'horizont'"),
        ("influence", {"damping": "horizont"}, "damping has 'horizont'"),
        ("influence", {"damping": [0.0, 1.0]}, "leaves the curvature singular"),
        ("influence", {"damping": float("nan")}, "damping=nan is not finite"),
        ("loo", {}, r"trains models again: .* or call leave_one_out\(posterior"),
        (["grad_dot", "nonsense"], {}, "'nonsense' is unknown: choose one of"),
    ],
)
def test_what_does_not_fit_together_is_refused(method, settings, why):
    with pytest.raises(UserError, match=why):
        score(method, **settings)


def test_dampings_may_be_a_range_or_a_tensor():
    posterior, objective = tda.Posterior.of_networks({0: [network(0)]}), tda.Classification()
    wanted = tda.attribute(posterior, objective, TRAIN, TEST, damping=[1, 2])
    for dampings in (range(1, 3), torch.tensor([1, 2])):
        found = tda.attribute(posterior, objective, TRAIN, TEST, damping=dampings)
        xr.testing.assert_identical(found, wanted)


@pytest.mark.parametrize("method", [{"influence", "grad_dot"}, [["influence"]], None])
def test_what_is_no_method_is_refused(method):
    posterior = tda.Posterior.of_networks({0: [network(0)]})
    with pytest.raises(UserError, match="is no name and no function"):
        tda.attribute(posterior, tda.Classification(), TRAIN, TEST, method=method, damping=1)


# Logits of one example and its class. Its loss is 92 and less, 710, 40, and the others' is small.
MISJUDGED = [
    ([0.0, -23.0, -92.0], 2), ([0.0, -90.0, -92.0], 2), ([0.0, -10.0, -60.0], 2),
    ([0.0, -700.0, -710.0], 2), ([0.0, -5.0, -80.0, -90.0, -5.0], 3), ([0.0, -20.0, -40.0], 2),
]  # fmt: skip


@pytest.mark.parametrize(("logits", "label"), MISJUDGED)
@pytest.mark.parametrize("num_train", [2, 6])
def test_a_surely_misjudged_example_has_the_scores_of_brute_force(logits, label, num_train):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        linear = nn.Linear(9, len(logits), bias=False).double()
        x, queries = (0.5 * torch.randn(count, 9).double() for count in (num_train, 2))
    x[1:, 0], queries[:, 0] = 0, 0.01
    x[0] = torch.eye(9, dtype=torch.float64)[0]
    with torch.no_grad():
        linear.weight[:, 0] = torch.tensor(logits)
    y = torch.zeros(num_train, dtype=torch.int64)
    y[0] = label
    p_NK = linear(x).softmax(1).detach()
    tests_MK = linear(queries).softmax(1).detach()
    tests_MK[:, 1] -= 1
    eye_KK = torch.eye(len(logits), dtype=torch.float64)
    train_NP = torch.einsum("nk,ni->nki", p_NK - eye_KK[y], x).flatten(1)
    test_MP = torch.einsum("mk,mi->mki", tests_MK, queries).flatten(1)
    hessian_NKK = torch.diag_embed(p_NK) - p_NK[:, :, None] * p_NK[:, None]
    matrix = torch.einsum("nkl,ni,nj->kilj", hessian_NKK, x, x) / num_train
    s_P, basis_PP = torch.linalg.eigh(matrix.reshape(len(train_NP[0]), -1))
    posterior, objective = tda.Posterior.of_networks({0: [linear]}), tda.Classification()

    def differ(phi, **settings):
        wanted = (train_NP @ basis_PP * phi(s_P)) @ basis_PP.T @ test_MP.T
        data_ = (
            Data(x, y, np.arange(num_train)),
            Data(queries, torch.ones_like(y[:2]), np.arange(2)),
        )
        found = tda.attribute(posterior, objective, *data_, **settings).values
        return np.abs(found.reshape(wanted.shape) - wanted.numpy()).max() / wanted.abs().max()

    assert differ(lambda s: 1 / (s + 0.1), damping=0.1) < 1e-10
    assert differ(lambda s: 1 / (s + 0.1), damping=[0.1]) < 1e-10
    assert differ(lambda s: -torch.expm1(-10 * s) / s, method="flow", horizon=10.0) < 1e-6
    both = tda.attribute(posterior, objective, (x, y), (queries, y[:2]), damping=[0.1, 1.0])
    for damping in (0.1, 1.0):
        alone = tda.attribute(posterior, objective, (x, y), (queries, y[:2]), damping=damping)
        gap = np.abs(both.sel(damping=damping) - alone).max() / np.abs(alone).max()
        assert gap < 1e-10


def test_a_function_may_give_an_array_of_numpy():
    def norms(gradients):
        return torch.ones(len(gradients.train_data), len(gradients.test_data)).double().numpy()

    assert (score(norms).values == 1).all()
