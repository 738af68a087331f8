#!/usr/bin/env bash
# Library    torch 2.13.0, nested torch.func.vmap over the vjp of F.prelu
# Expected   Per-example Jacobians (vmap over examples, inside it vmap over cotangents) are right, or an
#            error is raised, whatever the sizes are.
# Seen       With 4 examples and 3 outputs an error is raised ("size of tensor a (4) must match ...").
#            With 3 examples and 3 outputs there is none, and the gradient of the slope is wrong. So a
#            loop over batches fails on most and is silently wrong on the one whose size fits.
# Hurts      Per-example gradients and Gauss-Newton curvature of any network with PReLU.
# Here       Rows made by vmap are compared with autograd on the first examples.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch
import torch.nn.functional as F
from torch.func import vjp, vmap

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
slope, weight = torch.full((4,), 0.25), torch.randn(4, 6)


def output(slope, weight, x):
    return F.prelu((weight @ x)[None], slope)[0]


def stacked(x, cotangents):
    pull = vjp(lambda s, w: output(s, w, x), slope, weight)[1]
    return vmap(pull)(cotangents)[0]


def single(x, cotangent):
    leaf = slope.clone().requires_grad_()
    return torch.autograd.grad(output(leaf, weight, x), leaf, cotangent)[0]


print("torch", torch.__version__)
for examples in (4, 3):
    x, cotangents = torch.randn(examples, 6), torch.randn(examples, 3, 4)
    loop = torch.stack([torch.stack([single(a, c) for c in b]) for a, b in zip(x, cotangents)])
    try:
        gap = float((vmap(stacked)(x, cotangents) - loop).abs().max())
        print(examples, "examples, 3 cotangents: off by", gap, "of", float(loop.abs().max()))
    except RuntimeError as error:
        gap = None
        print(examples, "examples, 3 cotangents:", error)
    assert (gap is None) if examples == 4 else (gap > 0.1)
PY
