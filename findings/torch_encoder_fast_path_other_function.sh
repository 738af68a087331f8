#!/usr/bin/env bash
# Library    torch 2.13.0, nn.TransformerEncoder in evaluation mode with src_key_padding_mask
# Expected   torch.no_grad() changes no value: outputs equal those with gradients to rounding, at padded
#            positions as well.
# Seen       Under no_grad the fast path returns 0 at padded positions, where the other path returns
#            the layer's values. A network that pools over all positions has other outputs, and a loss
#            that was measured under no_grad is not the function that was differentiated.
# Hurts      Losses measured beside gradients: leave-one-out against influence, line searches, early
#            stopping against training loss.
# Here       The fast path is switched off wherever the library runs a network.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import warnings

import torch
from torch import nn

warnings.simplefilter("ignore")
torch.manual_seed(0)
layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
encoder = nn.TransformerEncoder(layer, 2).eval()
x = torch.randn(2, 5, 8)
padded = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
with_gradients = encoder(x, src_key_padding_mask=padded).detach()
with torch.no_grad():
    without = encoder(x, src_key_padding_mask=padded)
gap = (with_gradients - without).abs().amax(-1)
pooled = (with_gradients.mean(1) - without.mean(1)).abs().amax(-1)
print("torch", torch.__version__, "largest gap by position", gap.tolist(), "pooled", pooled.tolist())
assert gap[~padded].max() < 1e-5 and gap[padded].min() > 0.1
assert without[padded].abs().max() == 0
PY
