"""The look at derivatives, and layers that are written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from bayestda.errors import UserError
from bayestda.model.losses import FromLoss
from bayestda.model.objective import OutsideSpan
from bayestda.model.output_derivatives import loss_derivatives
from bayestda.model.second_derivatives import agrees, differences, first_right
from bayestda.model.written_out import written_out

NORMAL = torch.Generator().manual_seed(0)


def normal(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=NORMAL, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_right_derivatives_agree_with_differences_and_wrong_ones_do_not(dtype):
    at_P, along_P = normal(50, dtype=dtype), normal(50, dtype=dtype)
    wanted = differences(torch.sin, at_P, along_P)
    right = at_P.cos() * along_P
    assert agrees(right, wanted)
    assert not agrees(0.9 * right, wanted)
    assert not agrees(torch.zeros_like(right), wanted)
    assert not agrees(torch.where(torch.arange(50) == 3, torch.nan, right), wanted)


def test_rounding_and_kinks_raise_no_alarm():
    at_P, along_P = normal(50), normal(50)
    coarse = differences(lambda v: torch.sin(v.float()).double(), at_P, along_P)
    assert agrees(at_P.cos() * along_P, coarse)
    at_P[3] = 0.0  # the kink of |x|
    assert agrees(at_P.sign() * along_P, differences(torch.abs, at_P, along_P))


def test_the_first_way_that_is_right_is_taken_and_reasons_are_said():
    def fails():
        raise NotImplementedError("no derivative of this layer")

    ways = {"a": fails, "b": lambda: 2, "c": lambda: 3, "d": lambda: 3}
    assert first_right(ways, lambda way: way() == 3, "it", "mend it") is ways["c"]
    with pytest.raises(
        UserError, match="by a: no derivative of this layer; by b: they differ.*: m"
    ):
        first_right(ways, lambda way: way() == 4, "it", "mend it")

    def refuses():
        raise UserError("targets do not fit")

    with pytest.raises(UserError, match="targets do not fit"):
        first_right({"a": refuses, "b": lambda: 3}, lambda way: way() == 3, "it", "mend it")


def bag(**settings):
    return nn.EmbeddingBag(9, 3, **settings), (torch.arange(12).view(3, 4) % 9,)


def bag_with_offsets(**settings):
    offsets = torch.tensor([0, 0, 3, 12] if "include_last_offset" in settings else [0, 0, 3])
    return nn.EmbeddingBag(9, 3, **settings), (torch.arange(12) % 9, offsets)


LAYERS = {
    **{f"weight norm {d}": (weight_norm(nn.Linear(4, 3), dim=d), (normal(2, 4),)) for d in (0, 1)},
    "weight norm of all": (weight_norm(nn.Linear(4, 3), dim=None), (normal(2, 4),)),
    "group norm": (nn.GroupNorm(2, 4), (normal(3, 4, 5),)),
    "group norm without dims": (nn.GroupNorm(2, 4), (normal(3, 4),)),
    "bag": bag(),
    "bag with padding": bag(padding_idx=2),
    "largest of a bag": bag(mode="max", padding_idx=2),
    "sum of a bag": bag_with_offsets(mode="sum"),
    "bags by offsets": bag_with_offsets(mode="max"),
    "bags by all offsets": bag_with_offsets(include_last_offset=True),
    "lstm": (nn.LSTM(4, 2, num_layers=2), (normal(3, 2, 4),)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_are_written_out_compute_what_their_kernels_do(name):
    layer, inputs = LAYERS[name][0].double(), LAYERS[name][1]
    first = lambda output: output if isinstance(output, torch.Tensor) else output[0]  # noqa: E731
    kernel = first(layer(*inputs))
    with written_out():
        written = first(layer(*inputs))
    torch.testing.assert_close(written, kernel)
    for found, wanted in zip(*(slopes(layer, value) for value in (written, kernel)), strict=True):
        torch.testing.assert_close(found, wanted)


def slopes(layer, value):
    cotangent = torch.linspace(1, 2, value.numel()).to(value).view_as(value)
    return torch.autograd.grad(value, list(layer.parameters()), cotangent)


def test_distances_that_are_written_out_are_those_of_cdist():
    left, right = normal(3, 4), normal(5, 4)
    with written_out():
        found = torch.cdist(left, right)
    torch.testing.assert_close(found, torch.cdist(left, right))


def gaussian(f, y):
    """A loss that looks at its numbers, which vmap refuses."""
    return F.gaussian_nll_loss(f[:, 0], y, f[:, 1].exp(), reduction="none")


@pytest.mark.parametrize("loss", [gaussian, lambda f, y: (f[:, 0] - y) ** 4 + f[:, 1].cosh()])
def test_derivatives_in_the_output_are_those_of_each_example(loss):
    output_BK, y_B = normal(5, 2), normal(5)
    gradient_BK, hessian_BKK = loss_derivatives(lambda f: loss(f, y_B), output_BK)
    for b in range(5):
        one = lambda f, b=b: loss(f[None], y_B[b : b + 1])[0]  # noqa: E731
        hessian = torch.autograd.functional.hessian(one, output_BK[b])
        torch.testing.assert_close(hessian_BKK[b], hessian)
        gradient = torch.autograd.functional.jacobian(one, output_BK[b])
        torch.testing.assert_close(gradient_BK[b], gradient)


class Constant(torch.autograd.Function):
    """Squared errors whose backward pass counts as constant when it is differentiated again."""

    @staticmethod
    def forward(context, f, y):
        context.save_for_backward(f.detach() - y)
        return (f - y).square() / 2

    @staticmethod
    def backward(context, grad_output):
        return grad_output * context.saved_tensors[0], None


def ctc(f, y):
    logits = f.unflatten(1, (2, 2)).log_softmax(-1).transpose(0, 1)
    ones = torch.ones(len(f), dtype=torch.long)
    return F.ctc_loss(logits, ones[:, None], 2 * ones, ones, reduction="none") + 0 * y


@pytest.mark.parametrize(
    "loss",
    [
        lambda f, y: Constant.apply(f[:, 0], y),
        ctc,
        lambda f, y: F.multi_margin_loss(f, (y > 0).long(), reduction="none"),
    ],
)
def test_losses_without_second_derivative_are_refused(loss):
    with pytest.raises(UserError, match="write the loss in operations of torch"):
        FromLoss(loss).hessian_root(normal(5, 4), normal(5))


def test_losses_without_curvature_are_told_from_those_without_second_derivative():
    linear, output_BK, y_B = FromLoss(lambda f, y: f[:, 0] * y), normal(5, 2), normal(5)
    assert not linear.hessian_root(output_BK, y_B).any()
    with pytest.raises(OutsideSpan):
        linear.gradient_in_root(output_BK, y_B)
