#!/usr/bin/env bash
# Library    xarray 2026.9.0 with h5netcdf 1.8.2
# Expected   A lazily opened data set holds its file: after the file at its path is replaced (written
#            beside it and renamed over it) the old values are read, or an error is raised.
# Seen       Old values are read while few files are open. Once 128 others were opened (the size of a
#            cache of open files that no signature shows), the first data set reads whatever file lies
#            at its path by then, without an error or a warning. A closed data array does so at once.
# Hurts      Anyone who writes results to one path again and again and compares with an earlier one.
# Here       Streamed scores are read from the open file, which stays the same one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet xarray==2026.9.0 h5netcdf==1.8.2 h5py==3.16.0 numpy==2.4.6 pandas==3.1.1
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import os

import numpy as np
import xarray as xr


def write(value):
    xr.Dataset({"score": ("i", np.full(4, value))}).to_netcdf("new.nc", engine="h5netcdf")
    os.replace("new.nc", "scores.nc")


write(1.0)
first = xr.open_dataset("scores.nc", engine="h5netcdf")
write(2.0)
early = float(first["score"][0])
first = xr.open_dataset("scores.nc", engine="h5netcdf")
write(3.0)
others = []
for number in range(130):
    xr.Dataset({"other": ("i", np.zeros(1))}).to_netcdf(f"{number}.nc", engine="h5netcdf")
    others.append(xr.open_dataset(f"{number}.nc", engine="h5netcdf"))
late = float(first["score"][0])
print("xarray", xr.__version__, "opened with 1, read soon:", early, "opened with 2, read late:", late)
assert (early, late) == (1.0, 3.0)

write(4.0)
closed = xr.open_dataarray("scores.nc", engine="h5netcdf")
closed.close()
write(5.0)
print("closed before the file was replaced, then read:", float(closed[0]))
assert float(closed[0]) == 5.0
PY
