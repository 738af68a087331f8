#!/usr/bin/env bash
# Library    datasets 5.2.0, Dataset.with_format("numpy")
# Expected   A float64 column stays float64: numpy has no reason to round it. At the least a row and a
#            slice hold the same numbers.
# Seen       One row gives float64, a slice of the same column float32, so that ds[0]["x"] differs from
#            ds[:1]["x"][0] in the eighth digit. Columns of lists are float32 both ways. The schema
#            says float64 throughout.
# Hurts      Regression targets and anything compared with a float64 reference: a loop over rows and a
#            loop over batches train on different targets.
# Here       Hand over arrays where targets need float64.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pyarrow==26.0.1 numpy==2.4.6 pandas==3.1.1
"$folder/venv/bin/python" - <<'PY'
import datasets
import numpy as np

exact = np.array([1 / 3, 2 / 3])
table = datasets.Dataset.from_dict({"x": exact, "lists": [[1 / 3], [2 / 3]]}).with_format("numpy")
row, batch = table[0], table[:]
print("datasets", datasets.__version__, table.features)
print("row:", row["x"].dtype, row["lists"].dtype, "slice:", batch["x"].dtype, batch["lists"].dtype)
print("row less slice:", float(row["x"]) - float(batch["x"][0]))
assert row["x"].dtype == np.float64 and float(row["x"]) == exact[0]
assert batch["x"].dtype == np.float32 and row["lists"].dtype == np.float32
PY
