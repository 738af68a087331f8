#!/usr/bin/env bash
# Data       CIFAR-10 and the index lists of the Bayesian TDA paper (Nguyen et al. 2023), in data/cifar10
# Expected   train_subset_10pc.txt, "10 per class", holds ten images of each class.
# Seen       Those of 20 and 50 per class do; those of 10, 30 and 40 hold 5 to 14, 19 to 42 and 29 to 50
#            images of a class. The numbers are of training images, the labels that were balanced are
#            those of the test images with these numbers.
# Hurts      Comparisons of sizes (10 against 20 per class changes the balance, too), and whoever scores
#            within classes and expects ten examples in each.
# Here       data/README.md says so, and data/prepare.py --new_subset draws balanced lists.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6
"$folder/venv/bin/python" - "$here/data/cifar10" <<'PY'
import pathlib
import sys

import pandas as pd

folder = pathlib.Path(sys.argv[1])
labels = pd.read_parquet(folder / "train.parquet", columns=["label", "index"]).set_index("index")
spread = {}
for size in (10, 20, 50, 30, 40):
    numbers = [int(n) for n in (folder / f"train_subset_{size}pc.txt").read_text().split()]
    counts = labels["label"].loc[numbers].value_counts()
    spread[size] = (int(counts.min()), int(counts.max()))
    print(size, "per class:", len(numbers), "images,", counts.sort_index().tolist())
assert spread == {10: (5, 14), 20: (20, 20), 50: (50, 50), 30: (19, 42), 40: (29, 50)}
PY
