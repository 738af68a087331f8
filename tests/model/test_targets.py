"""Targets are converted where they have one meaning, and refused where they have none."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

import bayestda as tda
from bayestda.errors import UserError
from bayestda.model.measurements import margin

N, K = 6, 3
METHODS = {"grad_dot": {}, "influence": {"damping": 0.1}}


def problem(num_outputs=K):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, num_outputs)).double()
    x = torch.randn(N, 4).double()
    return tda.Posterior.of_networks({0: [network]}), network, x, torch.arange(N) % K


def scores(posterior, objective, x, y, streamed=False, **settings):
    data = TensorDataset(x, y) if streamed else (x, y)
    return tda.attribute(posterior, objective, data, data, **settings).values.reshape(N, N)


def by_hand(network, x, losses, damping=None):
    """Grad-Dot, or influence by the Hessian of the loss in the outputs, one example at a time."""
    theta = list(network.parameters())

    def gradient(value):
        return torch.cat(
            [g.flatten() for g in torch.autograd.grad(value, theta, retain_graph=True)]
        )

    gradient_NP, curvature_PP = [], 0.0
    for number in range(len(x)):
        output_K = network(x[number : number + 1])[0]
        gradient_NP.append(gradient(losses(output_K, number)))
        jacobian_KP = torch.stack([gradient(value) for value in output_K])
        hessian_KK = torch.autograd.functional.hessian(
            lambda f, number=number: losses(f, number), output_K.detach()
        )
        curvature_PP = curvature_PP + jacobian_KP.T @ hessian_KK @ jacobian_KP / len(x)
    gradient_NP = torch.stack(gradient_NP)
    if damping is None:
        return gradient_NP @ gradient_NP.T
    curvature_PP.diagonal().add_(damping)
    return gradient_NP @ torch.linalg.solve(curvature_PP, gradient_NP.T)


FORMS = {
    "a column": lambda y: y[:, None],
    "int32": lambda y: y.int(),
    "uint8": lambda y: y.byte(),
    "floats": lambda y: y.double(),
    "a column of floats": lambda y: y.float()[:, None],
    "one-hot": lambda y: F.one_hot(y, K),
    "one-hot floats": lambda y: F.one_hot(y, K).float(),
    "one-hot booleans": lambda y: F.one_hot(y, K).bool(),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["in memory", "streamed"])
@pytest.mark.parametrize("form", FORMS)
def test_classes_of_any_form_give_the_scores_of_class_numbers(form, streamed):
    posterior, _, x, y = problem()
    for method, settings in METHODS.items():
        wanted = scores(posterior, tda.Classification(), x, y, method=method, **settings)
        found = scores(
            posterior, tda.Classification(), x, FORMS[form](y), streamed, method=method, **settings
        )
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


def test_booleans_are_two_classes():
    posterior, _, x, y = problem(2)
    wanted = scores(posterior, tda.Classification(), x, y % 2, method="grad_dot")
    found = scores(posterior, tda.Classification(), x, y % 2 == 1, method="grad_dot")
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("damping", [None, 0.1])
def test_probabilities_of_classes_are_targets(damping):
    posterior, network, x, _ = problem()
    y = torch.rand(N, K, generator=torch.Generator().manual_seed(1)).double()
    y[0] = torch.tensor([0.0, 0.3, 0.7])
    y /= y.sum(1, keepdim=True)
    wanted = by_hand(network, x, lambda f, n: -(y[n] * f.log_softmax(0)).sum(), damping)
    settings = {"method": "grad_dot"} if damping is None else {"damping": damping}
    for streamed in (False, True):
        found = scores(posterior, tda.Classification(), x, y, streamed, **settings)
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("method", [*METHODS, "flow", "influence_cg", "influence_ekfac", "trak"])
def test_an_ignored_example_has_neither_loss_nor_curvature(method):
    posterior, network, x, y = problem()
    ignored = torch.where(torch.arange(N) == 1, -100, y)
    posterior = tda.Posterior.of_networks({0: [network]}, horizons=[10.0])
    settings = {"damping": 0.1} if method.startswith("influence") else {}
    settings |= {"projection": 3, "damping": 1.0} if method == "trak" else {}
    found = scores(posterior, tda.Classification(), x, ignored, method=method, **settings)
    assert (found[1] == 0).all() and (found[:, 1] == 0).all()
    if method == "influence":
        wanted = by_hand(
            network, x, lambda f, n: F.cross_entropy(f, ignored[n], reduction="sum"), 0.1
        )
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-7, atol=1e-10)


def test_measurements_of_ignored_examples_are_zero_and_need_a_class():
    f = torch.randn(2, K, generator=torch.Generator().manual_seed(0))
    assert margin(f, torch.tensor([1, -100]))[1] == 0
    with pytest.raises(UserError, match=r"needs the right class .* y.argmax\(1\)"):
        margin(f, f.softmax(1))


REFUSED = {
    "counted from 1": (tda.Classification(), K, lambda y: y + 1, "not from 1: give y - 1"),
    "too large": (tda.Classification(), K, lambda y: y + 2, "3 outputs have .* 0 to 2"),
    "negative": (tda.Classification(), K, lambda y: y - 1, "is -1: .* by -100"),
    "fractions": (tda.Classification(), K, lambda y: y / 2, "whole class numbers"),
    "not a number": (tda.Classification(), K, lambda y: y / y * 1.0, "is nan: leave"),
    "several labels": (
        tda.Classification(), K, lambda y: y.new_ones(N, K), "binary_cross_entropy_with_logits",
    ),
    "many positions": (tda.Classification(), K, lambda y: y.new_ones(N, 7), r"\(\d, 7\)"),
    "a single output": (tda.Classification(), 1, lambda y: y * 0, "BinaryClassification"),
    "-1 and 1": (tda.BinaryClassification(), 1, lambda y: y % 2 * 2 - 1, r"give \(y \+ 1\) / 2"),
    "1 and 2": (tda.BinaryClassification(), 1, lambda y: y % 2 + 1, "give y - 1"),
    "three classes": (tda.BinaryClassification(), 1, lambda y: y, "use Classification"),
    "two outputs": (tda.BinaryClassification(), 2, lambda y: y % 2, "one output"),
    "one-hot of a logit": (tda.BinaryClassification(), 1, lambda y: F.one_hot(y, 3), r"\(\d, 3\)"),
    "an infinite number": (tda.Regression(), 1, lambda y: 1.0 / y, "is inf: leave"),
    "a number missing": (tda.Regression(), 2, lambda y: y[:, None] / y * 1.0, "give targets"),
    "a dim too many": (tda.Regression(), 1, lambda y: y[:, None, None], r"\[N\] or \[N, 1\]"),
    "a column for K": (tda.Regression(), 2, lambda y: y[:, None], r"\[N, 2\]"),
    "K for a column": (tda.Regression(), 1, lambda y: y.new_ones(N, 3), r"\(\d, 3\)"),
    "a row of K": (tda.Regression(), 2, lambda y: y.new_ones(N, 1, 2), r"\(\d, 1, 2\)"),
    "one number for K": (tda.Regression(), 2, lambda y: y * 1.0, r"\[N, 2\]"),
    "complex": (tda.Regression(), 1, lambda y: y + 1j, "complex"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_targets_without_a_meaning_are_refused_by_a_sentence(case):
    objective, num_outputs, make, sentence = REFUSED[case]
    posterior, _, x, y = problem(num_outputs)
    with pytest.raises(UserError, match=sentence):
        scores(posterior, objective, x, make(y), method="grad_dot")
    with pytest.raises(UserError, match=sentence):
        scores(posterior, objective, x, make(y), streamed=True, method="grad_dot")


def test_a_refusal_comes_before_any_training():
    posterior, _, x, y = problem()
    recipe = tda.Recipe(epochs=1, batch_size=3, lr=0.1)
    build, called = lambda: nn.Linear(4, K).double(), tda.Classification()
    trained = tda.train_posterior(build, called, (x, y[:, None]), recipe, seeds=[0])
    for run in (
        lambda: tda.train_posterior(build, called, (x, y + 1), recipe, seeds=[0]),
        lambda: tda.leave_one_out(trained, called, (x, y + 1), (x, y)),
        lambda: tda.leave_one_out(trained, called, (x, y), (x, y + 1)),
        lambda: tda.replay(trained, called, (x, y), (x, y + 1)),
        lambda: tda.measure(trained, called, (x, y + 1)),
        lambda: tda.shifts(trained, called, (x, y + 1), (x, y)),
        lambda: tda.additional_step(trained, called, (x, y + 1), (x, y)),
        lambda: tda.further_train(build(), called, (x, y), (x, y + 1), recipe, seeds=[0]),
    ):
        with pytest.raises(UserError, match="example 2 is 3"):
            run()


def test_retraining_takes_targets_of_any_form():
    _, _, x, y = problem()
    recipe = tda.Recipe(epochs=2, batch_size=3, lr=0.1)
    build, called = lambda: nn.Linear(4, K).double(), tda.Classification()
    wanted, found = (
        tda.leave_one_out(
            tda.train_posterior(build, called, (x, own), recipe, seeds=[0]),
            called,
            (x, own),
            (x, own),
        )
        for own in (y, F.one_hot(y, K).double())
    )
    np.testing.assert_array_equal(found.values, wanted.values)
    soft = 0.9 * F.one_hot(y, K).double() + 0.1 / K
    posterior = tda.train_posterior(build, called, (x, soft), recipe, seeds=[0])
    stacked, alone = (
        tda.leave_one_out(posterior, called, (x, soft), (x, soft), chunk=chunk) for chunk in (4, 1)
    )
    np.testing.assert_allclose(stacked.values, alone.values, atol=1e-12)


def test_targets_with_a_gradient_are_taken_without_it():
    posterior, _, x, _ = problem(1)
    y = torch.randn(N, generator=torch.Generator().manual_seed(3)).double()
    wanted = scores(posterior, tda.Regression(), x, y, damping=0.1)
    found = scores(posterior, tda.Regression(), x, y.clone().requires_grad_(), damping=0.1)
    np.testing.assert_array_equal(found, wanted)


class Decoding(nn.Module):
    """Outputs that depend on the decoder's inputs, which it makes of labels as T5 does."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 4), nn.Linear(4, 9)

    def prepare_decoder_input_ids_from_labels(self, labels):
        shifted = F.pad(labels[:, :-1], (1, 0))
        return shifted.masked_fill(shifted == -100, 0)

    def forward(self, input_ids, decoder_input_ids):
        read = self.embed(input_ids).mean(1, keepdim=True)
        return self.head(torch.tanh(read + self.embed(decoder_input_ids)))


class Sequences(tda.FromLoss):
    def output(self, network, x):
        return network(**x).flatten(1)


def token_loss(f, y):
    logits = f.unflatten(1, (-1, 9)).transpose(1, 2)
    return F.cross_entropy(logits, y, reduction="none").mean(1)


def test_decoder_inputs_are_made_of_labels_where_the_network_makes_them_so():
    torch.manual_seed(0)
    network = Decoding().double()
    ids, y = torch.randint(0, 9, (N, 5)), torch.randint(0, 9, (N, 3))
    y[0, 2] = -100
    batch = {"input_ids": ids, "labels": y}
    given = {**batch, "decoder_input_ids": network.prepare_decoder_input_ids_from_labels(y)}
    items = [{name: value[i] for name, value in batch.items()} for i in range(N)]
    posterior, objective = tda.Posterior.of_networks({0: [network]}), Sequences(token_loss)
    wanted = tda.attribute(posterior, objective, given, given, damping=0.1)
    for data in (batch, items):
        found = tda.attribute(posterior, objective, data, data, damping=0.1)
        np.testing.assert_allclose(found.values, wanted.values, rtol=1e-9, atol=1e-12)


def test_decoder_inputs_are_named_where_only_the_call_makes_them():
    class Inside(Decoding):
        prepare_decoder_input_ids_from_labels = None

        def forward(self, input_ids, decoder_input_ids=None, labels=None):  # noqa: ARG002
            return super().forward(input_ids, decoder_input_ids)

    batch = {"input_ids": torch.ones(N, 5).long(), "labels": torch.ones(N, 3).long()}
    posterior = tda.Posterior.of_networks({0: [Inside().double()]})
    with pytest.raises(UserError, match="add decoder_input_ids to the batch"):
        tda.attribute(posterior, Sequences(token_loss), batch, batch, method="grad_dot")


def test_a_measurement_of_ones_own_may_take_other_targets_or_none():
    posterior, _, x, y = problem()
    first = tda.Classification(lambda f, _: f[:, 0])
    wanted = tda.attribute(posterior, first, (x, y), (x, y), damping=0.1)
    for dummy in (torch.zeros(N, 7), torch.full((N,), torch.nan)):
        found = tda.attribute(posterior, first, (x, y), (x, dummy), damping=0.1)
        np.testing.assert_array_equal(found.values, wanted.values)
        with pytest.raises(UserError, match="target"):
            tda.attribute(posterior, tda.Classification(margin), (x, y), (x, dummy), damping=0.1)
        with pytest.raises(UserError, match="target"):
            tda.attribute(posterior, tda.Classification(), (x, y), (x, dummy), damping=0.1)
        measured = tda.measure(posterior, first, (x, dummy))
        assert np.isfinite(measured.values).all()


CROSS_ENTROPY = tda.FromLoss(lambda f, y: F.cross_entropy(f, y, reduction="none"))
LABELS = tda.FromLoss(
    lambda f, y: F.binary_cross_entropy_with_logits(f, y, reduction="none").mean(1)
)
FAILING = {
    "int32": (CROSS_ENTROPY, lambda y: y.int(), r"give class numbers as y.long\(\)"),
    "floats": (CROSS_ENTROPY, lambda y: y.double(), r"give class numbers as y.long\(\)"),
    "a column": (CROSS_ENTROPY, lambda y: y[:, None], r"y int64 \[\d, 1\].* of the shape"),
    "too large": (CROSS_ENTROPY, lambda y: y + 1, "count classes from 0"),
    "integers": (LABELS, lambda y: F.one_hot(y, K), r"take the targets as y.to\(f\)"),
    "one label": (LABELS, lambda y: y.double(), "give targets of the shape"),
}


@pytest.mark.parametrize("case", FAILING)
def test_targets_that_a_loss_of_ones_own_does_not_take_are_named(case):
    objective, make, sentence = FAILING[case]
    posterior, _, x, y = problem()
    recipe = tda.Recipe(epochs=1, batch_size=3, lr=0.1)
    for run in (
        lambda: scores(posterior, objective, x, make(y), damping=0.1),
        lambda: tda.train_posterior(
            lambda: nn.Linear(4, K).double(), objective, (x, make(y)), recipe, seeds=[0]
        ),
    ):
        with pytest.raises(UserError, match=sentence):
            run()


def test_other_errors_of_a_loss_of_ones_own_stay_what_they_are():
    def broken(_f, _y):
        raise ValueError("not today")

    posterior, _, x, y = problem()
    with pytest.raises(ValueError, match="^not today$"):
        scores(posterior, tda.FromLoss(broken), x, y, method="grad_dot")
