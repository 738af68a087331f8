#!/usr/bin/env bash
# Library    torch 2.13.0, torch.func.vmap over the vjp of torch.cdist
# Expected   vmap over cotangents of a vjp equals the loop over them: that is how jacrev works.
# Seen       It is wrong without an error, so that torch.func.jacrev of torch.cdist is wrong as well,
#            while jacfwd and a loop over autograd.grad agree.
# Hurts      Jacobians of prototype, kernel and metric-learning networks: Gauss-Newton curvature and
#            per-example gradients that pull back several outputs at once.
# Here       Rows made by vmap are compared with autograd on the first examples, and taken singly where
#            they differ.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch
from torch.func import jacfwd, jacrev

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
x, centres = torch.randn(2, 3), torch.randn(5, 3)


def distances(centres):
    return torch.cdist(x, centres)


leaf = centres.clone().requires_grad_()
output = distances(leaf)
loop = torch.stack(
    [torch.autograd.grad(one, leaf, retain_graph=True)[0] for one in output.flatten()]
).view(2, 5, 5, 3)
reverse = float((jacrev(distances)(centres) - loop).abs().max())
print("torch", torch.__version__, "jacrev is off by", reverse, "of", float(loop.abs().max()))
try:
    print("jacfwd is off by", float((jacfwd(distances)(centres) - loop).abs().max()))
except (NotImplementedError, RuntimeError) as error:
    print("jacfwd refuses:", str(error).splitlines()[0])
assert reverse > 0.1, "jacrev of cdist is right now"
PY
