#!/usr/bin/env bash
# Library    torch 2.13.0, torch.func.vmap over jvp(grad(f)) with linalg.solve, det or slogdet
# Expected   The order of two nested vmaps does not matter: products H_x v for all examples x and all
#            directions v are the same with examples outside as with directions outside.
# Seen       With directions outside they equal the loop exactly. With examples outside they are off by
#            factors of up to 1e11, without an error or a warning. inv, cholesky, qr, eigh, lstsq and
#            matrix_exp are right both ways: it is the derivative of the LU factorisation.
# Hurts      Per-example curvature of networks with Cayley-orthogonal weights, of normalising flows and
#            of Gaussian processes: unrolled influence, per-example Hessian-vector products.
# Here       Stacked derivatives are compared with single ones on the first examples.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch
from torch.func import grad, jvp, vmap

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
w = torch.randn(3, 3) + 3 * torch.eye(3)
x, v = torch.randn(4, 3), torch.randn(2, 3, 3)
functions = {
    "solve": lambda w, x: torch.linalg.solve(w, x).pow(2).sum(),
    "det": lambda w, x: torch.linalg.det(w + torch.outer(x, x)),
    "slogdet": lambda w, x: torch.linalg.slogdet(w + torch.outer(x, x))[1],
    "inv": lambda w, x: (torch.linalg.inv(w) @ x).pow(2).sum(),
    "qr": lambda w, x: (torch.linalg.qr(w)[1] @ x).pow(2).sum(),
}
print("torch", torch.__version__)
for name, function in functions.items():

    def product(x, v):
        return jvp(lambda w: grad(function)(w, x), (w,), (v,))[1]

    loop = torch.stack([torch.stack([product(one, d) for d in v]) for one in x])
    directions_outside = vmap(lambda d: vmap(lambda one: product(one, d))(x))(v).transpose(0, 1)
    examples_outside = vmap(lambda one: vmap(lambda d: product(one, d))(v))(x)
    gaps = [float((a - loop).abs().max() / loop.abs().max()) for a in
            (directions_outside, examples_outside)]
    print(name, "directions outside: %.0e, examples outside: %.0e" % tuple(gaps))
    assert gaps[0] < 1e-9
    wrong = name in ("solve", "det", "slogdet")
    assert (gaps[1] > 0.1) == wrong, name
PY
