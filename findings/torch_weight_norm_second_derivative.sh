#!/usr/bin/env bash
# Library    torch 2.13.0, torch.nn.utils.parametrizations.weight_norm
# Expected   A layer with weight_norm is twice differentiable: autograd through autograd.grad gives its
#            Hessian-vector products to rounding, or raises an error.
# Seen       The product is finite, raises nothing and is wrong in the direction v: off by 70 % of its
#            size and more, where finite differences of the (right) gradient agree with the formula
#            w = g v / |v| written out to 1e-6. The magnitude g and the bias are right.
# Hurts      Influence functions by CG or LiSSA, Laplace approximations, sharpness: anything with
#            Hessian-vector products. Symmetry of H is lost as well, which a CG solver hides.
# Here       The library compares each way to a second derivative with another one before it is used.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch
from torch import nn
from torch.func import functional_call

torch.manual_seed(0)
layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)).double()
x = torch.randn(5, 3).double()
names = [name for name, _ in layer.named_parameters()]
start = [parameter.detach() for parameter in layer.parameters()]
direction = [torch.randn_like(tensor) for tensor in start]


def library(*tensors):
    return functional_call(layer, dict(zip(names, tensors)), (x,)).pow(3).sum()


def written_out(*tensors):
    named = dict(zip(names, tensors))
    g, v = named["parametrizations.weight.original0"], named["parametrizations.weight.original1"]
    weight = g * v / v.norm(dim=1, keepdim=True)
    return (x @ weight.T + named["bias"]).pow(3).sum()


def gradient(function, shift=0.0):
    tensors = [(t + shift * d).requires_grad_() for t, d in zip(start, direction)]
    return torch.autograd.grad(function(*tensors), tensors)


def product(function):
    tensors = [t.clone().requires_grad_() for t in start]
    first = torch.autograd.grad(function(*tensors), tensors, create_graph=True)
    return torch.autograd.grad(first, tensors, direction)


step = 1e-5
finite = [(a - b) / (2 * step) for a, b in zip(gradient(library, step), gradient(library, -step))]


def gap(products):
    return {n: float((p - f).norm() / f.norm()) for n, p, f in zip(names, products, finite)}


print("torch", torch.__version__, "library", gap(product(library)))
print("written out", gap(product(written_out)))
v = "parametrizations.weight.original1"
assert gap(product(library))[v] > 0.1, "the second derivative is right now"
assert max(gap(product(written_out)).values()) < 1e-6
PY
