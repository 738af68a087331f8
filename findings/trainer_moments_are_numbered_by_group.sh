#!/usr/bin/env bash
# Library    transformers 5.23.0, Trainer's AdamW (what optimizer.pt holds), accelerate 1.15.0
# Expected   Entry i of the optimizer's state belongs to the i-th of model.named_parameters().
# Seen       Weight decay makes two groups, and the numbers run through the first group (decayed), then
#            the second (biases and norms). In a one-layer BERT 13 of 25 entries have another shape than
#            the i-th parameter, and 8 more have its shape and belong to another one: the moments of the
#            query's weight are those of the value's.
# Hurts      Preconditioned influence, TracIn with Adam, pruning: whoever pairs optimizer.pt with names
#            by counting, and checks shapes at most.
# Here       tda.adam_horizon takes moments without names.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0 accelerate==1.15.0 torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import torch
import transformers
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

torch.manual_seed(0)
model = BertForSequenceClassification(BertConfig(
    vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=16, max_position_embeddings=16,
))
examples = [{"input_ids": torch.randint(0, 50, (6,)), "labels": torch.tensor(i % 2)} for i in range(8)]
arguments = TrainingArguments(
    "out", max_steps=1, weight_decay=0.01, report_to=[], save_strategy="no", use_cpu=True,
    disable_tqdm=True,
)
trainer = Trainer(model, arguments, train_dataset=examples)
trainer.train()

named = list(model.named_parameters())
names = {id(parameter): name for name, parameter in named}
owners = [names[id(p)] for group in trainer.optimizer.param_groups for p in group["params"]]
state = trainer.optimizer.state_dict()["state"]
other_shape = [n for i, (n, p) in enumerate(named) if state[i]["exp_avg"].shape != p.shape]
other_owner = [
    (name, owners[i]) for i, (name, p) in enumerate(named)
    if state[i]["exp_avg"].shape == p.shape and owners[i] != name
]
print("transformers", transformers.__version__, len(named), "parameters")
print(len(other_shape), "entries of another shape;", len(other_owner), "of the same shape, another owner:")
print(other_owner[0])
assert (len(named), len(other_shape), len(other_owner)) == (25, 13, 8)
PY
