#!/usr/bin/env bash
# Library    torch 2.13.0, torch.nn.functional.dropout on a CPU
# Expected   The mask that a seed draws for a tensor depends on its shape. Converting a network to
#            channels-last, or stacking copies of it with vmap(randomness="same"), changes the speed.
# Seen       Numbers are drawn in the order of memory: the same seed masks other elements of the same
#            channels-last tensor. Under vmap(randomness="same") the mask is drawn as for contiguous
#            memory. So a stacked run, a channels-last run and a plain run of one seed are three runs
#            or two, by the layout that a kernel happened to return.
# Hurts      Leave-one-out retraining, deep ensembles, anything that pairs runs of one seed: the
#            difference of two runs then has another run's dropout in it.
# Here       Masks follow from seed and step; networks with group norm and stacked copies keep one layout.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch
import torch.nn.functional as F

plain = torch.ones(2, 3, 4, 4)
last = plain.to(memory_format=torch.channels_last)


def masked(x):
    torch.manual_seed(1)
    return F.dropout(x, 0.5)


def stacked(x):
    torch.manual_seed(1)
    return torch.func.vmap(lambda x: F.dropout(x, 0.5), randomness="same")(x[None])[0]


found = {
    "channels-last is plain": masked(last).equal(masked(plain)),
    "stacked plain is plain": stacked(plain).equal(masked(plain)),
    "stacked channels-last is channels-last": stacked(last).equal(masked(last)),
    "stacked channels-last is plain": stacked(last).equal(masked(plain)),
}
print("torch", torch.__version__, found)
assert list(found.values()) == [False, True, False, True]
PY
