"""The ensemble engine against plain training loops."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small_networks import examples
from torch.func import functional_call

from bayestda.model.losses import Classification
from bayestda.model.parameters import Parameters
from bayestda.retraining.additional_step import additional_training_step, step_recipe
from bayestda.retraining.leave_one_out import removals, retrained_losses
from bayestda.training.loop import losses, train
from bayestda.training.members import Members, data_order
from bayestda.training.recipe import Recipe

N, M = 7, 4
RECIPE = Recipe(epochs=3, batch_size=4, lr=0.05, weight_decay=0.1, keep=2)


def plain_training(network, recipe, data, order_EN, weight_N, theta):
    """One member, as one would write it without the engine: parameters after kept epochs."""
    network = copy.deepcopy(network)
    Parameters(network).write(network, theta)
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[recipe.optimizer]
    optimizer = kind(network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    num_steps = recipe.epochs * -(-len(data.y) // recipe.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 1 - step / num_steps if recipe.linear_decay else 1.0
    )
    kept = []
    for order_N in order_EN:
        for batch in order_N.split(recipe.batch_size):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(data.x[batch]), data.y[batch], reduction="none")
            (loss * weight_N[batch]).mean().backward()
            optimizer.step()
            schedule.step()
        kept.append(Parameters(network).read(network))
    return torch.stack(kept[-recipe.keep :])


def losses_on(network, theta_P, test):
    output = functional_call(network, Parameters(network).split(theta_P), (test.x,))
    return F.cross_entropy(output, test.y, reduction="none")


@pytest.mark.parametrize("chunk", [1, 2, 8])
@pytest.mark.parametrize(
    "recipe", [RECIPE, replace(RECIPE, optimizer="sgd"), replace(RECIPE, linear_decay=True)]
)
def test_members_train_as_in_a_plain_loop(network, network_name, recipe, chunk):
    data = examples(network_name, N, seed=1)
    initial = torch.randn(3, Parameters(network).count, dtype=torch.float64) / 3
    order = torch.cat([data_order(seed, N, recipe.epochs) for seed in (5, 6, 7)])
    weight = torch.rand(3, N, dtype=torch.float64)
    trained = torch.cat(
        [
            theta_CRP
            for _, theta_CRP in train(
                network,
                Classification(),
                data,
                recipe,
                Members(initial, order, weight),
                chunk=chunk,
            )
        ],
        dim=1,
    )
    for member in range(3):
        expected = plain_training(
            network, recipe, data, order[member], weight[member], initial[member]
        )
        torch.testing.assert_close(trained[:, member], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("chunk", [1, 3])
def test_leave_one_out_is_retraining_without_the_example(network, network_name, chunk):
    data, test = examples(network_name, N, seed=1), examples(network_name, M, seed=2)
    theta, order = Parameters(network).read(network), data_order(5, N, RECIPE.epochs)
    members = Members(theta[None], order, removals(N, range(N + 1)).double())
    measured = retrained_losses(
        network, Classification(), RECIPE, members, train_data=data, test_data=test, chunk=chunk
    )
    for row in range(N + 1):
        weight = torch.ones(N, dtype=torch.float64)
        if row:
            weight[row - 1] = 0
        kept = plain_training(network, RECIPE, data, order[0], weight, theta)
        for checkpoint, theta_P in enumerate(kept):
            expected = losses_on(network, theta_P, test)
            torch.testing.assert_close(measured[checkpoint, row], expected, rtol=1e-8, atol=1e-10)


def test_losses_of_stacked_and_single_members_agree(network, network_name):
    theta = torch.randn(3, Parameters(network).count, dtype=torch.float64)
    test = examples(network_name, M, seed=2)
    single = losses(network, Classification(), theta, test)
    stacked = losses(network, Classification(), theta, test, stacked=True)
    torch.testing.assert_close(single, stacked, rtol=1e-10, atol=1e-12)


def test_the_order_is_a_permutation_of_every_epoch_and_depends_on_the_seed_alone():
    order = data_order(3, N, 4)
    assert order.shape == (1, 4, N)
    assert order.sort().values.eq(torch.arange(N)).all()
    assert order.eq(data_order(3, N, 4)).all()
    assert not order.eq(data_order(4, N, 4)).all()


def test_tensor_float_32_ends_before_a_chunk_is_handed_on(network, network_name):
    data = examples(network_name, N, seed=1)
    theta = Parameters(network).read(network)
    members = Members(theta[None], data_order(0, N, 3), torch.ones(2, N))
    trained = train(network, Classification(), data, RECIPE, members, tf32=True)
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    for _ in trained:
        assert before == (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)


def test_a_padded_chunk_gives_each_member_once(network, network_name):
    data = examples(network_name, N, seed=1)
    theta = Parameters(network).read(network)
    members = Members(theta[None], data_order(0, N, 3), torch.rand(5, N).double())
    parts = list(train(network, Classification(), data, RECIPE, members, chunk=4))
    assert [(part.start, part.stop) for part, _ in parts] == [(0, 4), (4, 5)]
    assert [theta_CRP.shape[1] for _, theta_CRP in parts] == [4, 1]


def test_the_network_passed_in_is_not_changed(network, network_name):
    before = Parameters(network).read(network)
    data = examples(network_name, N, seed=1)
    members = Members(before[None] + 1, data_order(0, N, 3), torch.ones(2, N))
    for chunk in (1, 2):
        list(train(network, Classification(), data, RECIPE, members, chunk=chunk))
    assert Parameters(network).read(network).equal(before)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("chunk", [1, 3])
def test_an_additional_step_is_the_published_formula(network, network_name, optimizer, chunk):
    recipe = replace(RECIPE, lr=0.01)
    data, test = examples(network_name, N, seed=1), examples(network_name, M, seed=2)
    theta = Parameters(network).read(network)
    scores = additional_training_step(
        network, Classification(), theta, step_recipe(recipe, optimizer),
        examples=data, test=test, chunk=chunk,
    )  # fmt: skip
    for j in range(N):
        leaf = theta.clone().requires_grad_()
        output = functional_call(network, Parameters(network).split(leaf), (data.x[j : j + 1],))
        Classification().loss(output, data.y[j : j + 1]).sum().backward()
        direction = leaf.grad + recipe.weight_decay * theta
        if optimizer == "adam":  # a fresh Adam step has the size lr in every coordinate
            direction = direction / (direction.abs() + 1e-8)
        expected = losses_on(network, theta - recipe.lr * direction, test)
        expected = losses_on(network, theta, test) - expected
        torch.testing.assert_close(scores[j], expected, rtol=1e-6, atol=1e-9)
