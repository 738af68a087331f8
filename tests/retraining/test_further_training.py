"""Further training against plain Python loops in float64."""

import copy
from dataclasses import replace
from decimal import Decimal, getcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bayestda as tda
import bayestda.experiments.networks.mlp
import bayestda.experiments.paths
from bayestda.errors import UserError
from bayestda.model.dropout import dropout_masks
from bayestda.model.examples import Data
from bayestda.model.measurements import confident_loss
from bayestda.retraining.data_changes import Change
from bayestda.retraining.gold_standard import Course, GoldStandard, chunk_for
from bayestda.training.members import data_order
from bayestda.training.recipe import Recipe

N, M, SEEDS = 11, 4, (5, 9)
SGD = Recipe(epochs=3, batch_size=4, lr=0.05, weight_decay=0.0, optimizer="sgd")
ADAMW = replace(SGD, optimizer="adamw", lr=0.01, weight_decay=0.1)
RECIPES = {
    "sgd": SGD,
    "momentum": replace(SGD, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": replace(SGD, optimizer="adam", lr=0.01),
    "adamw": ADAMW,
    "clipped": replace(ADAMW, clip=0.1, linear_decay=True),
}
CLOSE = {"rtol": 0, "atol": 1e-9}
LEFT_OUT = [2, 7, 10]


def data(count, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    y = x[:, 0] * x[:, 1] + torch.randn(count, generator=generator, dtype=torch.float64)
    return Data(x, y, np.arange(count) + 100 * seed)


TRAIN, TEST, NEW = data(N, 1), data(M, 2), data(2, 3)


def perceptron(dropout=0.0):
    torch.manual_seed(3)
    layers = nn.Linear(3, 6), nn.ReLU(), nn.Dropout(dropout), nn.Linear(6, 1)
    return nn.Sequential(*layers).double()


def optimizer_of(network, recipe):
    common = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "sgd":
        common |= {"momentum": recipe.momentum, "nesterov": recipe.nesterov}
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[recipe.optimizer](network.parameters(), **common)


def plain_losses(network, recipe, batches, beside=(), sign=0.0, seed=None):
    """Test losses after every step, as one would write it: no engine, no stacking.

    ``beside`` are further examples (x, y), of which ``sign``/N times the loss is added.
    """
    network = copy.deepcopy(network)
    optimizer, found = optimizer_of(network, recipe), [test_losses(network)]
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            decay = 1 - step / len(batches) if recipe.linear_decay else 1.0
            group["lr"] = recipe.lr * decay
        x, y = TRAIN.x[batch], TRAIN.y[batch]
        if beside:
            x, y = torch.cat([x, beside[0]]), torch.cat([y, beside[1]])
        network.train(seed is not None)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()
        with dropout_masks(seed, step, torch.device("cpu")):
            loss_B = (network(x)[:, 0] - y) ** 2
        loss = loss_B[: len(batch)].mean() + sign / N * loss_B[len(batch) :].sum()
        optimizer.zero_grad()
        loss.backward()
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimizer.step()
        found.append(test_losses(network))
    return torch.stack(found)


@torch.no_grad()
def test_losses(network):
    return (network.eval()(TEST.x)[:, 0] - TEST.y) ** 2


test_losses.__test__ = False


def batches_of(seed, recipe, without=()):
    order_EN = data_order(seed, N, recipe.epochs)[0].tolist()
    return [
        torch.tensor(kept[start : start + recipe.batch_size])
        for order_N in order_EN
        for kept in [[position for position in order_N if position not in without]]
        for start in range(0, len(kept), recipe.batch_size)
    ]


def further(network, recipe=SGD, **asked):
    steps = range(3 * recipe.epochs + 1) if "epochs" not in asked else None
    asked = {"seeds": SEEDS, "steps": steps, **asked}
    return tda.further_train(network, tda.Regression(), TRAIN, TEST, recipe, **asked)


@pytest.mark.parametrize("chunk", [1, 3, 4])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_subtraction_is_a_plain_loop(recipe, chunk):
    network = perceptron()
    measured = further(network, recipe, left_out=LEFT_OUT, chunk=chunk)
    for place, seed in enumerate(SEEDS):
        batches = batches_of(seed, recipe)
        expected = plain_losses(network, recipe, batches)
        np.testing.assert_allclose(measured["full"][place], expected, **CLOSE)
        for row, position in enumerate(LEFT_OUT):
            beside = TRAIN.x[[position]], TRAIN.y[[position]]
            expected = plain_losses(network, recipe, batches, beside, -1.0)
            np.testing.assert_allclose(measured["loss"][place, :, row], expected, **CLOSE)


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("recipe", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_with_dropout_all_members_meet_the_masks_of_the_plain_loop(recipe, chunk):
    network = perceptron(dropout=0.4)
    measured = further(network, recipe, left_out=LEFT_OUT, chunk=chunk)
    for place, seed in enumerate(SEEDS):
        batches = batches_of(seed, recipe)
        filler = TRAIN.x[[0]], TRAIN.y[[0]]  # of weight 0, so that masks have the same shape
        expected = plain_losses(network, recipe, batches, filler, 0.0, seed)
        np.testing.assert_allclose(measured["full"][place], expected, **CLOSE)
        beside = TRAIN.x[[7]], TRAIN.y[[7]]
        expected = plain_losses(network, recipe, batches, beside, -1.0, seed)
        np.testing.assert_allclose(measured["loss"][place, :, 1], expected, **CLOSE)


@pytest.mark.parametrize("chunk", [1, 4])
def test_batch_norm_keeps_its_statistics_beside_dropout(chunk):
    torch.manual_seed(4)
    normed = nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.1), nn.Linear(6, 1)
    network, batches = nn.Sequential(*normed).double(), batches_of(5, SGD)
    network[1].running_mean += 0.3
    measured = further(network, left_out=LEFT_OUT, seeds=[5], chunk=chunk)
    filler = TRAIN.x[[0]], TRAIN.y[[0]]
    expected = plain_losses(network, SGD, batches, filler, 0.0, 5)
    np.testing.assert_allclose(measured["full"][0], expected, **CLOSE)
    for row, position in enumerate(LEFT_OUT):  # whatever was trained before
        beside = TRAIN.x[[position]], TRAIN.y[[position]]
        expected = plain_losses(network, SGD, batches, beside, -1.0, 5)
        np.testing.assert_allclose(measured["loss"][0, :, row], expected, **CLOSE)


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("recipe", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_deletion_moves_later_examples_up(recipe, chunk):
    network = perceptron()
    measured = further(network, recipe, left_out=LEFT_OUT, how="delete", chunk=chunk)
    for place, seed in enumerate(SEEDS):
        expected = plain_losses(network, recipe, batches_of(seed, recipe))
        np.testing.assert_allclose(measured["full"][place], expected, **CLOSE)
        for row, position in enumerate(LEFT_OUT):
            expected = plain_losses(network, recipe, batches_of(seed, recipe, [position]))
            np.testing.assert_allclose(measured["loss"][place, :, row], expected, **CLOSE)


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("how", ["subtract", "delete"])
def test_groups_are_left_out_together(how, chunk):
    network, groups = perceptron(), [[2, 7], [10, 0]]
    measured = further(network, left_out=groups, how=how, chunk=chunk)
    batches = batches_of(SEEDS[0], SGD)
    for row, group in enumerate(groups):
        if how == "delete":
            expected = plain_losses(network, SGD, batches_of(SEEDS[0], SGD, group))
        else:
            beside = TRAIN.x[group], TRAIN.y[group]
            expected = plain_losses(network, SGD, batches, beside, -1.0)
        np.testing.assert_allclose(measured["loss"][0, :, row], expected, **CLOSE)
    assert measured["left_out"].values.tolist() == [0, 1]


def test_groups_of_different_sizes_do_not_affect_each_other():
    network = perceptron()
    together = further(network, left_out=[[2, 7, 1], 10], chunk=3)
    alone = further(network, left_out=[10], chunk=2)
    np.testing.assert_allclose(together["loss"][:, :, 1], alone["loss"][:, :, 0], **CLOSE)


@pytest.mark.parametrize("chunk", [1, 3])
def test_new_examples_are_added_to_every_batch(chunk):
    network = perceptron()
    measured = further(network, added=NEW, chunk=chunk)
    batches = batches_of(SEEDS[1], SGD)
    for row in range(len(NEW)):
        beside = NEW.x[[row]], NEW.y[[row]]
        expected = plain_losses(network, SGD, batches, beside, 1.0)
        np.testing.assert_allclose(measured["loss"][1, :, row], expected, **CLOSE)
    expected = plain_losses(network, SGD, batches)
    np.testing.assert_allclose(measured["full"][1], expected, **CLOSE)
    assert measured["added"].values.tolist() == NEW.index.tolist()
    scores = tda.fully_adjusted(measured)
    expected = (measured["full"] - measured["loss"]).transpose(*scores.dims)
    np.testing.assert_array_equal(scores, expected)


def test_only_adapters_are_trained_where_the_rest_is_frozen():
    network = perceptron()
    network[0].requires_grad_(False)
    measured = further(network, left_out=[2])
    beside = TRAIN.x[[2]], TRAIN.y[[2]]
    expected = plain_losses(network, SGD, batches_of(SEEDS[0], SGD), beside, -1.0)
    np.testing.assert_allclose(measured["loss"][0, :, 0], expected, **CLOSE)


@pytest.mark.parametrize("chunk", [1, 3])
def test_classification_with_a_custom_measurement(chunk):
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    labels = torch.arange(N) % 3
    train = Data(TRAIN.x.float(), labels, TRAIN.index)
    test = Data(TEST.x.float(), labels[:M], TEST.index)
    objective = tda.Classification(measurement=bayestda.model.measurements.margin)
    measured = tda.further_train(
        network,
        objective,
        train,
        test,
        replace(SGD, epochs=1),
        left_out=[1],
        chunk=chunk,
        seeds=[4],
    )  # fmt: skip
    assert measured["loss"].dtype == np.float64
    assert measured["test_label"].values.tolist() == labels[:M].tolist()
    optimizer = torch.optim.SGD(network.parameters(), lr=SGD.lr)
    for batch in data_order(4, N, 1)[0, 0].split(4):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(train.x[batch]), labels[batch])
        (loss - F.cross_entropy(network(train.x[[1]]), labels[[1]]) / N).backward()
        optimizer.step()
    logits = network(test.x).detach().double()
    expected = bayestda.model.measurements.margin(logits, labels[:M])
    np.testing.assert_allclose(measured["loss"][0, 0, 0], expected, rtol=1e-5)


def test_subtraction_cancels_an_examples_weight_over_an_epoch():
    """In full batches the removal is exact: the gradient of the mean without z_i, times its N."""
    network, recipe = perceptron(), replace(SGD, batch_size=N)
    measured = further(network, recipe, left_out=[3], epochs=[3], chunk=1)
    rest = [position for position in range(N) if position != 3]
    plain, optimizer = copy.deepcopy(network), None
    optimizer = torch.optim.SGD(plain.parameters(), lr=recipe.lr)
    for _ in range(3):
        optimizer.zero_grad()
        ((plain(TRAIN.x[rest])[:, 0] - TRAIN.y[rest]) ** 2).sum().div(N).backward()
        optimizer.step()
    np.testing.assert_allclose(measured["loss"][0, 0, 0], test_losses(plain), **CLOSE)


def test_adjustments_are_the_papers_equations():
    measured = further(perceptron(), left_out=LEFT_OUT)
    loss_STRM, full_STM = measured["loss"].values, measured["full"].values
    mean = np.stack([loss_STRM[:, :, j] for j in range(3)]).mean(0)
    np.testing.assert_allclose(tda.mean_adjusted(measured), loss_STRM - mean[:, :, None], **CLOSE)
    expected = loss_STRM - full_STM[:, :, None]
    np.testing.assert_array_equal(tda.fully_adjusted(measured), expected)
    assert tda.mean_adjusted(measured).dims == ("seed", "step", "left_out", "test")


def test_before_the_first_step_nothing_is_left_out():
    scores = tda.fully_adjusted(further(perceptron(), left_out=LEFT_OUT))
    assert (scores.sel(step=0) == 0).all()
    assert (scores.sel(step=1) != 0).all()


def test_steps_carry_their_epochs_and_horizons():
    recipe = replace(SGD, linear_decay=True)
    course = Course.of(recipe, N, epochs=[1, 3])
    rates = recipe.learning_rates(N)
    assert (course.steps, course.epochs) == ((3, 9), (1.0, 3.0))
    np.testing.assert_allclose(course.horizons, [sum(rates[:3]), sum(rates)])
    measured = further(perceptron(), recipe, left_out=[1], epochs=[3, 1])
    assert measured["epoch"].values.tolist() == [1, 3]
    every_step = further(perceptron(), recipe, left_out=[1])
    np.testing.assert_array_equal(measured["loss"], every_step["loss"].sel(step=[3, 9]))


def test_arrays_of_steps_and_epochs_are_taken():
    by_epoch, by_step = (
        Course.of(SGD, N, **{name: np.array([1, 3])}) for name in ("epochs", "steps")
    )
    assert (by_epoch.steps, by_step.steps) == ((3, 9), (1, 3))


def test_training_ends_with_the_last_measurement():
    short = further(perceptron(), left_out=[1], steps=[2])
    expected = further(perceptron(), left_out=[1])["loss"].sel(step=[2])
    np.testing.assert_array_equal(short["loss"], expected)


def test_the_network_and_the_generator_stay_as_they_are():
    network = perceptron(dropout=0.4)
    before = copy.deepcopy(network.state_dict())
    state = torch.get_rng_state()
    further(network, left_out=[1])
    assert all(before[name].equal(value) for name, value in network.state_dict().items())
    assert torch.get_rng_state().equal(state)


def test_seeds_do_not_depend_on_each_other_nor_members_on_their_neighbours():
    both = further(perceptron(), left_out=LEFT_OUT, chunk=2)
    one = further(perceptron(), left_out=LEFT_OUT, chunk=2, seeds=SEEDS[1:])
    np.testing.assert_array_equal(both["loss"][1], one["loss"][0])
    other = further(perceptron(), left_out=[LEFT_OUT[2], 4], chunk=2)
    np.testing.assert_allclose(both["loss"][:, :, 2], other["loss"][:, :, 0], **CLOSE)


def test_perceptrons_are_stacked_on_a_cpu_and_other_networks_are_not():
    assert (
        chunk_for(
            bayestda.experiments.networks.mlp.mlp(8, 1), data(500, 1), replace(SGD, batch_size=128)
        )
        > 8
    )
    assert chunk_for(nn.Sequential(nn.Conv2d(1, 2, 3)), TRAIN, SGD) == 1
    gold = GoldStandard(perceptron(), tda.Regression(), SGD, Course.of(SGD, N), chunk=None)
    assert gold.losses(1, TRAIN, TEST, Change([[1]])).shape == (1, 2, M)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "either left_out= "),
        ({"left_out": [1], "added": NEW}, "either left_out= "),
        ({"left_out": [N]}, "between 0 and 10"),
        ({"left_out": [[1, 1]]}, "must differ"),
        ({"left_out": []}, "at least one position"),
        ({"left_out": [[]]}, "at least one position"),
        ({"left_out": [1, [2, 3]], "how": "delete"}, "groups of one size"),
        ({"left_out": [1], "how": "forget"}, "subtract, delete"),
        ({"added": NEW, "how": "delete"}, "cannot be deleted"),
        ({"left_out": [[0, 1, 2]], "how": "delete"}, "epochs of 2 steps instead of 3"),
        ({"left_out": [1], "epochs": [4]}, r"steps 0 to 9 \(3 epochs of 3\)"),
        ({"left_out": [1], "steps": [-1]}, "step -1"),
        ({"left_out": [1], "epochs": [1], "steps": [1]}, "not both"),
        ({"left_out": [1], "epochs": []}, "at least one epoch or step"),
        ({"left_out": [1], "steps": []}, "at least one epoch or step"),
    ],
)
def test_arguments_that_do_not_fit_are_one_clear_error(asked, message):
    with pytest.raises(UserError, match=message):
        tda.further_train(perceptron(), tda.Regression(), TRAIN, TEST, SGD, seeds=[1], **asked)


def test_fields_added_later_are_left_out_of_settings_at_their_defaults():
    assert set(Recipe(epochs=3).settings()) == {
        "epochs", "batch_size", "lr", "weight_decay", "optimizer", "linear_decay", "keep",
    }  # fmt: skip
    assert Recipe(epochs=3, momentum=0.9, optimizer="sgd").settings()["momentum"] == 0.9


def test_the_benchmarks_sequential_side_computes_the_same(monkeypatch):
    """CG without steps to spare is the exact influence; its run is a plain DataLoader run."""
    monkeypatch.syspath_prepend(str(bayestda.experiments.paths.REPOSITORY / "benchmarks"))
    import sequential

    network = perceptron()
    solve = sequential.conjugate_gradients(0.1, 40)
    theirs_M = sequential.influence_of_point(network, TRAIN, TEST, 3, solve).detach()
    posterior = tda.Posterior.of_networks({0: [network]})
    ours = tda.attribute(posterior, tda.Regression(), TRAIN, TEST, damping=0.1)
    np.testing.assert_allclose(theirs_M, ours[0, 0, 3], rtol=1e-6)

    solve = sequential.lissa(0.1, scale=20.0, steps=4000, batch=N)
    theirs_M = sequential.influence_of_point(network, TRAIN, TEST, 3, solve).detach()
    np.testing.assert_allclose(theirs_M, ours[0, 0, 3], rtol=1e-6)

    full = replace(SGD, batch_size=N, epochs=2)  # a full batch has no order
    theirs = sequential.further_losses(network, TRAIN, TEST, full, 0, None)
    measured = further(network, full, left_out=[1], epochs=[1, 2])
    np.testing.assert_allclose(theirs, measured["full"][0], **CLOSE)


def test_a_confident_loss_keeps_its_digits():
    margins = torch.tensor([-50.0, -3.0, 0.5, 30.0, 45.0, 200.0], dtype=torch.float64)
    output_BK = torch.stack([margins, torch.zeros(6), torch.full((6,), -1e4)], dim=1).double()
    y_B = torch.zeros(6, dtype=torch.int64)
    exact = [float(log1p_exp(-value)) for value in margins.tolist()]
    np.testing.assert_allclose(confident_loss(output_BK, y_B), exact, rtol=1e-14)
    plain = tda.Classification().loss(output_BK, y_B)
    torch.testing.assert_close(plain[:3], confident_loss(output_BK, y_B)[:3])
    assert plain[4] == 0


def log1p_exp(value):
    """log(1 + eˣ) with 120 digits."""
    getcontext().prec = 120
    return (1 + Decimal(value).exp()).ln()
