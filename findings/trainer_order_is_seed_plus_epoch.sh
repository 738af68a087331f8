#!/usr/bin/env bash
# Library    transformers 5.23.0, Trainer, with accelerate 1.15.0
# Expected   The order of the data is drawn from torch's global generator after set_seed(seed), so it
#            depends on the initialisation and on every draw before, as with torch's RandomSampler.
# Seen       Epoch e has randperm of a generator of its own with seed + e. So runs of seeds 7 and 8 share
#            orders: epoch 1 of the first is epoch 0 of the second.
# Hurts      Deep ensembles over consecutive seeds (their data orders are shifted copies, not
#            independent). Helps: a recorded run can be replayed from its seed alone.
# Here       This project draws an order for each seed from a generator of its own for all epochs.
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

examples = [
    {"input_ids": torch.tensor([i, 1, 2]), "labels": torch.tensor(i % 2)} for i in range(10)
]


def orders(seed):
    met = []

    def collate(items):
        met.extend(int(item["input_ids"][0]) for item in items)
        return {key: torch.stack([item[key] for item in items]) for key in items[0]}

    model = BertForSequenceClassification(BertConfig(
        vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=16,
    ))
    arguments = TrainingArguments(
        "out", num_train_epochs=2, per_device_train_batch_size=4, seed=seed, report_to=[],
        save_strategy="no", use_cpu=True, disable_tqdm=True,
    )
    Trainer(model, arguments, train_dataset=examples, data_collator=collate).train()
    return met[:10], met[10:]


def own_generator(seed):
    return torch.randperm(10, generator=torch.Generator().manual_seed(seed)).tolist()


print("transformers", transformers.__version__)
seven, eight = orders(7), orders(8)
print("seed 7:", *seven, "seed 8:", *eight)
assert seven == (own_generator(7), own_generator(8))
assert seven[1] == eight[0]
PY
