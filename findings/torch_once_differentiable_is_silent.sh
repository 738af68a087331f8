#!/usr/bin/env bash
# Library    torch 2.13.0, torch.autograd.function.once_differentiable
# Expected   Differentiating twice through a function whose backward is marked once_differentiable
#            raises "trying to differentiate twice a function that was marked with
#            @once_differentiable".
# Seen       Only where nothing else connects to the input: torch.autograd.grad(gradient, x) of a loss
#            that uses x elsewhere, too, returns a second derivative without the function's own part,
#            and raises nothing. (.backward() on the same graph raises.)
# Hurts      Hessian-vector products of networks with a fused loss or kernel beside plain layers.
# Here       Second derivatives are compared with differences of gradients before they are used.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch
from torch.autograd.function import once_differentiable


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


def loss(x, square):
    return square(x).sum() * x.sum()


def second(square):
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    (first,) = torch.autograd.grad(loss(x, square), x, create_graph=True)
    return torch.autograd.grad(first.sum(), x)[0]


found, right = second(Square.apply), second(torch.square)
print("torch", torch.__version__, "second derivative", found.tolist(), "right is", right.tolist())
assert not torch.allclose(found, right), "it is right now"

x = torch.tensor([1.0, 2.0], requires_grad=True)
(first,) = torch.autograd.grad(loss(x, Square.apply), x, create_graph=True)
try:
    first.sum().backward()
    raised = False
except RuntimeError as error:
    raised = True
    print("backward() raises:", str(error).splitlines()[0])
print("backward() raised:", raised)
PY
