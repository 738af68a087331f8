#!/usr/bin/env bash
# Data       UCI 242, Energy efficiency (A. Tsanas, A. Xifara, CC BY 4.0), as in data/energy/rows.csv
# Expected   768 rows are 768 different buildings. Leaving one out measures what it contributes.
# Seen       The rows are 192 groups of four that differ in the orientation X6 alone, and the heating
#            load Y1 hardly depends on it: its standard deviation within a group is .31 in the mean,
#            10.1 over all rows. After a random split most test rows have near-copies in training.
# Hurts      Leave-one-out and influence (three near-copies remain, so that effects look like noise), and
#            test errors of random splits, which are errors of interpolation between copies.
# Here       docs/fimo.md: its Energy results are about such rows.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pandas==3.1.1 numpy==2.4.6
"$folder/venv/bin/python" - "$here/data/energy/rows.csv" <<'PY'
import sys

import numpy as np
import pandas as pd

rows = pd.read_csv(sys.argv[1])
others = ["X1", "X2", "X3", "X4", "X5", "X7", "X8"]
groups = rows.groupby(others)
sizes = groups.size()
within, total = groups["Y1"].std().mean(), rows["Y1"].std()
print(len(rows), "rows,", len(sizes), "groups of", set(sizes), "std of Y1 within", within, "of", total)
test = np.random.RandomState(0).permutation(len(rows))[: len(rows) // 10]
train = rows.drop(index=test)
known = rows.loc[test].merge(train[others].drop_duplicates(), on=others)
print("test rows of a random tenth with a near-copy in training:", len(known), "of", len(test))
assert (len(rows), len(sizes), set(sizes)) == (768, 192, {4})
assert within < 0.32 and total > 10 and len(known) > 0.98 * len(test)
PY
