"""The peers' benchmark without its peers: exact scores, our sides, the point-by-point algorithm."""

import sys

import pytest
import reference
import torch
from torch import nn

from bayestda.errors import UserError
from bayestda.experiments import paths
from bayestda.model.examples import Data
from bayestda.model.measurements import margin

sys.path.insert(0, str(paths.REPOSITORY / "benchmarks"))
import peer_cases
import peer_exact
import peer_rows
import peers
import per_point
from peer_sides import SIDES
from peer_sides import settings as shared

N, M, DAMPING = 12, 5, 1.0
CLOSE = {"rtol": 1e-8, "atol": 1e-10}
SETTINGS = shared.Settings(
    DAMPING, 1e-12, cg_steps=5,
    lissa_damping=2.0, lissa_scale=8.0, lissa_steps=60, lissa_batch=N, projection=6, rank=80,
)  # fmt: skip


@pytest.fixture(params=["mlp", "cnn"])
def case(request, monkeypatch):
    """A small float64 network of either kind of case."""
    monkeypatch.setitem(shared.SETTINGS, request.param, SETTINGS)
    layers = {
        "mlp": lambda: [nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 4)],
        "cnn": lambda: [nn.Conv2d(1, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(18, 4)],
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        network = nn.Sequential(*layers[request.param]()).double()
        x, y = torch.randn(N + M, 1, 3, 4).double(), torch.arange(N + M) % 4
    return peer_cases.Case(request.param, network, (x[:N], y[:N]), (x[N:], y[N:]))


@pytest.fixture
def plain(case):
    """Gradients and curvature one by one."""
    train, test = (Data(x, y, torch.arange(len(y)).numpy()) for x, y in (case.train, case.test))
    return {
        "train": reference.loss_gradients(case.network, train),
        "test": reference.loss_gradients(case.network, test),
        "Gauss-Newton": reference.gauss_newton(case.network, train),
        "Hessian": reference.hessian(case.network, train),
    }


def influence(plain, curvature, damping):
    return reference.influence(plain["train"], plain["test"], plain[curvature], damping)


def test_exact_scores_are_those_of_plain_references(case, plain, monkeypatch):
    exact = {name: function(case) for name, function in peer_exact.EXACT.items()}
    expected = {
        "Grad-Dot": plain["train"] @ plain["test"].T,
        "Gauss-Newton": influence(plain, "Gauss-Newton", DAMPING),
        "Hessian": influence(plain, "Hessian", DAMPING),
        "Hessian, LiSSA's damping": influence(plain, "Hessian", 2.0),
    }
    for name, scores in expected.items():
        torch.testing.assert_close(exact[name], scores, **CLOSE)
    monkeypatch.setattr(peer_exact, "EXPLICIT", 0)
    by_products = peer_exact.hessian_influence(case, 1.0)
    expected = influence(plain, "Hessian", 1.0)
    torch.testing.assert_close(by_products[::10], expected[::10], rtol=1e-6, atol=1e-8)
    assert by_products.isnan().all(1).tolist() == [j % 10 != 0 for j in range(N)]
    assert peers.agreement(expected, by_products, free_scale=False)["error"] < 1e-6


def test_the_exact_kernel_is_that_of_projected_gradients_of_the_margin(case):
    projection = torch.randn(sum(p.numel() for p in case.network.parameters()), 3).double()

    def features(data):
        rows = []
        for x, y in zip(*data, strict=True):
            value = margin(case.network(x[None]), y[None])[0]
            rows.append(reference.gradient(value, case.network) @ projection)
        return torch.stack(rows)

    train, test = features(case.train), features(case.test)
    kernel = train @ torch.linalg.inv(train.T @ train) @ test.T
    p_N = case.network(case.train[0]).softmax(1).gather(1, case.train[1][:, None])
    torch.testing.assert_close(peer_exact.projected(case, projection), kernel * (1 - p_N), **CLOSE)


@pytest.mark.parametrize("side", [name for name in SIDES if name.startswith("ours: ")])
def test_our_side_of_every_row_gives_the_exact_scores(case, side):
    result = SIDES[side](case)()
    if side == "ours: trak":
        expected = peer_exact.projected(case, result.projection())
        torch.testing.assert_close(result.scores_NM, expected, **CLOSE)
        return
    names = {row.exact for row in peer_rows.ROWS if row.ours == side}
    (name,) = names
    error = peers.agreement(result, peer_exact.EXACT[name](case), free_scale=False)
    assert error["error"] < (1e-4 if "lissa" in side or "rest" in side else 1e-9)


def test_point_by_point_conjugate_gradients_are_the_dense_solution(case, plain):
    inverse = per_point.by_cg(case.network, case.train, 1.0, 1e-12)
    found = per_point.influence(case.network, case.train, case.test, inverse)
    torch.testing.assert_close(found, influence(plain, "Hessian", 1.0), rtol=1e-7, atol=1e-9)


def test_point_by_point_lissa_is_its_recursion_and_goes_to_the_solution(case, plain):
    matrix, (x_N, y_N) = plain["Hessian"], case.train
    few = per_point.by_lissa(case.network, case.train, 0.5, scale=8.0, steps=2, batch=6)
    halves = [
        reference.hessian(case.network, Data(x_N[at], y_N[at], torch.arange(6).numpy()))
        for at in (slice(6), slice(6, 12))
    ]
    gradient = plain["test"][0]
    expected = gradient
    for half in halves:
        expected = gradient + (1 - 0.5 / 8) * expected - half @ expected / 8
    torch.testing.assert_close(few(gradient), expected / 8, **CLOSE)
    many = per_point.by_lissa(case.network, case.train, 2.0, scale=8.0, steps=80, batch=N)
    eye = torch.eye(len(matrix)).double()
    solution = torch.linalg.solve(matrix + 2.0 * eye, gradient)
    torch.testing.assert_close(many(gradient), solution, rtol=1e-6, atol=1e-8)


def test_hessian_products_point_by_point_are_those_of_the_dense_matrix(case, plain):
    vector = torch.randn(len(plain["Hessian"])).double()
    found = per_point.hessian_product(case.network, case.train, vector)
    torch.testing.assert_close(found, plain["Hessian"] @ vector, **CLOSE)


def test_a_case_is_read_as_it_was_written(tmp_path):
    network = peer_cases._EMPTY["digits MLP"]()
    x, y = torch.rand(3, 64), torch.arange(3)
    case = peer_cases.Case("digits MLP", network, (x, y), (x[:2], y[:2]))
    peer_cases.write(case, tmp_path / "case.safetensors")
    again = peer_cases.read("digits MLP", tmp_path / "case.safetensors")
    assert again.network(x).equal(network(x))
    for side, other in zip((*case.train, *case.test), (*again.train, *again.test), strict=True):
        assert side.equal(other)
    assert len(again.first(1).test[1]) == 1


def fake(errors):
    """Measures sides as exact scores times 1 + an error; a peer scores half of the examples."""

    def measure(side, case, columns):
        scores = peer_exact.EXACT["Grad-Dot"](case)[:, :columns] * (1 + errors.get(side, 0))
        share = (columns or M) / M
        return peers.Result(scores, None, seconds=3.0 * share, peak_mb=7.0, share=share)

    return measure


def test_the_table_multiplies_out_what_was_measured(case):
    row = peer_rows.Row(case.name, "ours: grad_dot", "a peer", "Grad-Dot", columns=2)
    table = peers.compare([row, row], {case.name: case}, fake({"a peer": 1e-5})).iloc[0]
    assert table["share"] == 2 / M
    assert (table["ours_s"], table["peer_s"], table["ratio"]) == pytest.approx((3, 3, 1))
    assert 1e-6 < table["peer_error"] <= 1.001e-5
    assert table["ours_error"] == 0
    assert table["peer_r"] == pytest.approx(1)


@pytest.mark.parametrize("wrong", ["ours: grad_dot", "a peer"])
def test_scores_that_are_not_exact_end_the_run(case, wrong):
    row = peer_rows.Row(case.name, "ours: grad_dot", "a peer", "Grad-Dot")
    with pytest.raises(UserError, match=f"{wrong} on {case.name} is wrong by"):
        peers.compare([row], {case.name: case}, fake({wrong: 1e-2}))


def test_scores_that_are_no_numbers_end_the_run(case):
    row = peer_rows.Row(case.name, "ours: grad_dot", "a peer", "Grad-Dot")
    with pytest.raises(UserError, match="is wrong by nan"):
        peers.compare([row], {case.name: case}, fake({"a peer": float("nan")}))


def test_only_a_free_scale_forgives_a_factor():
    scores = torch.randn(4, 3).double()
    assert peers.agreement(7 * scores, scores, free_scale=True)["error"] < 1e-12
    assert peers.agreement(7 * scores, scores, free_scale=False)["error"] == pytest.approx(6)


def test_a_side_runs_in_a_process_of_its_own():
    x, y = torch.rand(6, 64), torch.arange(6)
    case = peer_cases.Case("digits MLP", peer_cases._EMPTY["digits MLP"](), (x, y), (x, y))
    result = peers.in_process(threads=1)("ours: grad_dot", case, 3)
    expected = peer_exact.grad_dot(case.double())[:, :3]
    assert peers.agreement(result.scores_NM, expected, free_scale=False)["error"] < 1e-5
    assert result.share == 0.5
    assert result.seconds > 0
    assert result.peak_mb > 0


def test_a_peer_that_is_not_installed_is_an_error_in_one_sentence():
    x, y = torch.rand(6, 64), torch.arange(6)
    case = peer_cases.Case("digits MLP", peer_cases._EMPTY["digits MLP"](), (x, y), (x, y))
    with pytest.raises(UserError, match=r"pyDVL: CG on digits MLP failed: ModuleNotFoundError"):
        peers.in_process(threads=1)("pyDVL: CG", case, 3)


def test_every_row_names_sides_cases_and_exact_scores_that_exist():
    for row in peer_rows.ROWS:
        assert row.ours in SIDES, row
        assert row.peer in SIDES, row
        assert row.case in peer_cases.BUILDERS, row
        assert row.exact in peer_exact.EXACT or row.exact == "TRAK", row
    assert {row.peer for row in peer_rows.ROWS} | {row.ours for row in peer_rows.ROWS} == set(SIDES)
