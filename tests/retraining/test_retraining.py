"""Posteriors that the library trains; what retraining and influence say of the same removals."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import bayestda as tda
from bayestda.errors import UserError
from bayestda.training.recorded import check_same_runs

N, M = 12, 5
RECIPE = tda.Recipe(
    epochs=4, batch_size=5, lr=0.05, weight_decay=0.01, optimizer="adam", linear_decay=True, keep=2
)


def normal(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, XT = normal((N, 3), 1), normal((M, 3), 2)
Y, YT = (X[:, 0] + 0.3 * X[:, 1] > 0).long(), (XT[:, 0] > 0).long()


def build():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


@pytest.fixture(scope="module")
def posterior():
    return tda.train_posterior(build, tda.Classification(), (X, Y), RECIPE, seeds=[3, 8])


def test_all_epochs_are_kept_where_more_are_asked_for_than_there_are():
    short = tda.Recipe(epochs=3, batch_size=5, lr=0.05)
    assert short.keep > 3
    asked = tda.Classification(), (X, Y)
    kept = tda.train_posterior(build, *asked, short, seeds=[3])
    assert kept.checkpoints == (1, 2, 3)
    three = tda.train_posterior(build, *asked, replace(short, keep=3), seeds=[3])
    torch.testing.assert_close(kept.samples[3], three.samples[3], rtol=0, atol=0)
    scores = [tda.attribute(each, *asked, (XT, YT), damping="horizon") for each in (kept, three)]
    np.testing.assert_array_equal(*scores)
    replayed = tda.replay(kept, *asked, (XT, YT))
    assert replayed["checkpoint"].values.tolist() == [1, 2, 3]


def trained(seed, without=()):
    """A plain loop: the networks of the kept epochs."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05, weight_decay=0.01)
    generator, step, kept = torch.Generator().manual_seed(seed), 0, []
    orders = [torch.randperm(N, generator=generator) for _ in range(4)]
    for epoch, order in enumerate(orders):
        for batch in order.split(5):
            optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 12)
            optimizer.zero_grad()
            losses = nn.functional.cross_entropy(network(X[batch]), Y[batch], reduction="none")
            present = torch.tensor([int(j) not in without for j in batch], dtype=torch.float64)
            ((losses * present).sum() / len(batch)).backward()
            optimizer.step()
            step += 1
        if epoch >= 2:
            with torch.no_grad():
                output = network(XT)
                kept.append(nn.functional.cross_entropy(output, YT, reduction="none"))
    return torch.stack(kept)


def test_leave_one_out_is_a_plain_loop_of_retrainings(posterior):
    scores = tda.leave_one_out(posterior, tda.Classification(), (X, Y), (XT, YT))
    assert scores.dims == ("seed", "checkpoint", "train", "test")
    assert scores["checkpoint"].values.tolist() == [3, 4]
    for seed in (3, 8):
        for j in (0, 7):
            expected = trained(seed, {j}) - trained(seed)
            found = scores.sel(seed=seed, train=j).values
            np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-10)


def test_groups_and_subsets_are_retrained_without_what_they_leave_out(posterior):
    groups = np.zeros((1, N), dtype=bool)
    groups[0, [2, 5, 6]] = True
    data = ((X, Y), (XT, YT))
    scores = tda.leave_group_out(posterior, tda.Classification(), *data, groups=groups)
    expected = trained(8, {2, 5, 6}) - trained(8)
    np.testing.assert_allclose(scores.sel(seed=8, group=0).values, expected, rtol=1e-7, atol=1e-10)
    loss = tda.retrained(posterior, tda.Classification(), *data, weights=1 - groups.astype(float))
    np.testing.assert_allclose(
        loss.sel(seed=8, member=0).values, trained(8, {2, 5, 6}), rtol=1e-7, atol=1e-10
    )


def test_an_additional_step_of_sgd_is_a_gradient_step(posterior):
    scores = tda.additional_step(posterior, tda.Classification(), (X, Y), (XT, YT), optimizer="sgd")
    network = posterior.network(3, 1)
    before = nn.functional.cross_entropy(network(XT), YT, reduction="none")
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, weight_decay=0.01)
    nn.functional.cross_entropy(network(X[4:5]), Y[4:5]).backward()
    optimizer.step()
    after = nn.functional.cross_entropy(network(XT), YT, reduction="none")
    found = scores.sel(seed=3, checkpoint=4, train=4).values
    np.testing.assert_allclose(found, (before - after).detach(), rtol=1e-7, atol=1e-12)


def test_samples_come_back_from_files(posterior, tmp_path):
    files = {}
    for seed in posterior.seeds:
        files[seed] = [tmp_path / f"{seed}_{place}.safetensors" for place in range(2)]
        for place, path in enumerate(files[seed]):
            save_file(posterior.network(seed, place).state_dict(), path)
    loaded = tda.Posterior.from_checkpoints(build, files, checkpoints=[3, 4])
    data = ((X, Y), (XT, YT))
    for settings in ({"method": "grad_dot"}, {"damping": 0.1}):
        first = tda.attribute(posterior, tda.Classification(), *data, **settings)
        again = tda.attribute(loaded, tda.Classification(), *data, **settings)
        np.testing.assert_array_equal(first.values, again.values)


def test_recorded_rates_and_horizons(posterior):
    rates = [0.05 * (1 - step / 12) for step in range(12)]
    assert posterior.learning_rates == pytest.approx((rates[8], rates[11]))
    assert posterior.horizons == pytest.approx((sum(rates[:9]), sum(rates)))


def test_same_init_changes_only_the_order():
    both = tda.train_posterior(
        build, tda.Classification(), (X, Y), RECIPE, seeds=[3, 8], same_init=True
    )
    torch.testing.assert_close(both.training.initial[3], both.training.initial[8])
    assert not torch.equal(both.training.order[3], both.training.order[8])


def converged(weight):
    """Logistic regression with L2, to the optimum, with weights of the examples."""
    network = nn.Linear(3, 2, bias=False).double()
    nn.init.zeros_(network.weight)
    optimizer = torch.optim.LBFGS(
        network.parameters(), lr=1, max_iter=1000, tolerance_grad=1e-13, tolerance_change=1e-18,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure():
        optimizer.zero_grad()
        losses = nn.functional.cross_entropy(network(X), Y, reduction="none")
        loss = (weight * losses).mean() + L2 / 2 * network.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return network


L2 = 0.5


def test_influence_over_n_is_leave_one_out_of_a_converged_logistic_regression():
    network = converged(torch.ones(N).double())
    posterior = tda.Posterior.of_networks({0: [network]})
    data = ((X, Y), (XT, YT))
    found = tda.attribute(posterior, tda.Classification(), *data, damping=L2).values[0, 0] / N
    base = nn.functional.cross_entropy(network(XT), YT, reduction="none")
    slope, removed = [], []
    for j in range(N):
        for weight, store in ((0.999, slope), (0.0, removed)):
            weights = torch.ones(N).double()
            weights[j] = weight
            output = converged(weights)(XT)
            loss = nn.functional.cross_entropy(output, YT, reduction="none")
            store.append(((loss - base) / (1 - weight)).detach().numpy())
    np.testing.assert_allclose(found, slope, rtol=2e-3, atol=1e-7)  # the derivative
    assert np.corrcoef(found.ravel(), np.ravel(removed))[0, 1] > 0.99  # the finite removal


def test_the_unrolled_filter_is_gradient_descent_under_a_constant_force():
    """The response of least squares, whose curvature is constant, to an up-weighted example."""
    steps, rate, y, yt = 17, 0.1, normal((N, 1), 4), normal((M, 1), 5)
    network = nn.Linear(3, 1, bias=False).double()
    force_N3 = reference_gradients(network, y)
    curvature = 2 * X.T @ X / N
    moved_3N = torch.zeros(3, N, dtype=torch.float64)
    for _ in range(steps):
        moved_3N = moved_3N + rate * (force_N3.T - curvature @ moved_3N)
    found = tda.attribute(
        tda.Posterior.of_networks({0: [network]}), tda.Regression(), (X, y), (XT, yt),
        method="unrolled", rate=rate, steps=steps,
    )  # fmt: skip
    test_M3 = 2 * (network(XT) - yt).detach() * XT
    expected = (test_M3 @ moved_3N).T
    np.testing.assert_allclose(found.values[0, 0], expected, rtol=1e-8, atol=1e-12)


def reference_gradients(network, y):
    return 2 * (network(X) - y).detach() * X


def pickled(tmp_path):
    path = tmp_path / "a.pt"
    torch.save(build().state_dict(), path)
    return path


def other_network(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file(nn.Sequential(nn.Linear(3, 9), nn.Tanh(), nn.Linear(9, 2)).state_dict(), path)
    return path


def nameless(tmp_path):
    path = tmp_path / "nameless.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    return path


def truncated(tmp_path):
    path = other_network(tmp_path)
    path.write_bytes(path.read_bytes()[:40])
    return path


def diverged(tmp_path):
    path = tmp_path / "nan.safetensors"
    state = build().state_dict()
    state["0.weight"][0, 0] = torch.nan
    save_file(state, path)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (pickled, "safetensors.torch.save_file"),
        (lambda folder: folder / "none.safetensors", "does not exist"),
        (other_network, r"0\.bias has shape \(9,\)"),
        (nameless, "unknown are weight and missing are"),
        (truncated, "is damaged"),
        (diverged, "not finite"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        posterior = tda.Posterior.from_checkpoints(build, {0: [make(tmp_path)]})
        tda.attribute(posterior, tda.Classification(), (X, Y), (X, Y), method="grad_dot")


@pytest.mark.parametrize(("settings", "message"), [
    ({"epochs": 0}, "epochs=0 must be a whole number, at least 1"),
    ({"epochs": 2.5}, r"epochs=2\.5 must be a whole number"),
    ({"batch_size": 0}, "batch_size=0 must be a whole number"),
    ({"keep": 0}, "keep=0 must be a whole number"),
    ({"keep": -1}, "keep=-1 must be a whole number"),
    ({"lr": float("nan")}, "lr=nan must be a finite number"),
    ({"lr": float("inf")}, "lr=inf must be a finite number"),
    ({"lr": -0.1}, r"lr=-0\.1 must be a finite number, not below 0"),
    ({"optimizer": "AdamW"}, "optimizer='AdamW' is unknown: choose one of sgd, adam, adamw"),
])  # fmt: skip
def test_impossible_recipes_are_refused_at_once(settings, message):
    with pytest.raises(UserError, match=message):
        replace(RECIPE, **settings)
    assert replace(RECIPE, epochs=np.int64(3), lr=0.0).epochs == 3


def test_posteriors_that_cannot_be_retrained_are_refused_with_the_reason(posterior):
    loaded = tda.Posterior.of_networks({0: [build()]})
    with pytest.raises(UserError, match="needs a posterior from tda.train_posterior"):
        tda.leave_one_out(loaded, tda.Classification(), (X, Y), (XT, YT))
    with pytest.raises(UserError, match="one column per training example"):
        tda.leave_group_out(
            posterior, tda.Classification(), (X, Y), (XT, YT), groups=np.ones((2, 3), dtype=bool)
        )
    normed = lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()  # noqa: E731
    with pytest.raises(UserError, match="batch norm"):
        tda.train_posterior(normed, tda.Classification(), (X, Y), RECIPE, seeds=[1])
    with pytest.raises(UserError, match="same number of checkpoints"):
        tda.Posterior.of_networks({0: [build()], 1: [build(), build()]})


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_runs_trained_stacked_are_those_trained_one_by_one(optimizer):
    momentum = 0.9 if optimizer == "sgd" else 0.0
    recipe = replace(RECIPE, optimizer=optimizer, momentum=momentum)
    seeds, asked = [3, 8, 1, 5, 2], (tda.Classification(), (X, Y))
    single = tda.train_posterior(build, *asked, recipe, seeds=seeds)
    for chunk in (2, 64):
        stacked = tda.train_posterior(build, *asked, recipe, seeds=seeds, chunk=chunk)
        assert stacked.seeds == single.seeds
        for seed in seeds:
            for place in range(2):
                for name, value in single.samples[seed][place].items():
                    torch.testing.assert_close(stacked.samples[seed][place][name], value)


def test_stacked_runs_are_a_plain_loop():
    stacked = tda.train_posterior(
        build, tda.Classification(), (X, Y), RECIPE, seeds=[3, 8], chunk=2
    )
    found = tda.measure(stacked, tda.Classification(), (XT, YT))
    np.testing.assert_allclose(found.sel(seed=8), trained(8), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("chunk", [2, 4, 7, 100])
def test_removals_of_many_seeds_are_retrained_together(posterior, chunk):
    asked = (posterior, tda.Classification(), (X, Y), (XT, YT))
    weights = 1 - np.eye(N)[:3]
    single = tda.retrained(*asked, weights=weights)
    stacked = tda.retrained(*asked, weights=weights, chunk=chunk)
    np.testing.assert_allclose(stacked.values, single.values, rtol=1e-7, atol=1e-10)


def test_stacked_runs_with_dropout_keep_the_masks_of_their_seed():
    dropping = lambda: nn.Sequential(build(), nn.Dropout(0.5), nn.Linear(2, 2).double())  # noqa: E731
    asked = (dropping, tda.Classification(), (X, Y), RECIPE)
    single = tda.train_posterior(*asked, seeds=[3, 8])
    stacked = tda.train_posterior(*asked, seeds=[3, 8], chunk=8)
    for seed in (3, 8):
        for name, value in single.samples[seed][1].items():
            torch.testing.assert_close(stacked.samples[seed][1][name], value)


@pytest.mark.parametrize(("ends", "drift"), [([0.01, 0.30], "30%"), ([0.01, torch.nan], "nan%")])
def test_repeated_runs_may_differ_by_rounding_and_no_more(posterior, ends, drift):
    kept_SP = torch.stack(
        [torch.cat([t.flatten() for t in posterior.samples[seed][1].values()]) for seed in (3, 8)]
    )
    initial_SP = torch.stack([posterior.training.initial[seed] for seed in (3, 8)])
    apart_SP = torch.tensor(ends)[:, None] * (kept_SP - initial_SP)
    with pytest.raises(UserError, match=f"the run of seed 8 does not arrive .* ends {drift}"):
        check_same_runs(posterior, [3, 8], 1, kept_SP + apart_SP, initial_SP)
    check_same_runs(posterior, [3], 1, (kept_SP + apart_SP)[:1], initial_SP[:1])
