"""Whether two roots hold the same results of an experiment, bit for bit.

python tests/slurm/compare.py ROOT ROOT EXPERIMENT
"""

import json
import sys
from collections import Counter
from pathlib import Path

import xarray as xr
from safetensors.numpy import load_file


def bits(file: Path) -> dict[str, bytes]:
    """What a file says, without when and how long it took to make."""
    if file.suffix == ".safetensors":
        return {name: values.tobytes() for name, values in load_file(file).items()}
    if file.suffix == ".nc":
        with xr.open_dataset(file, engine="h5netcdf") as dataset:
            settings = json.dumps(json.loads(dataset.attrs["settings"]), sort_keys=True).encode()
            values = {str(name): dataset[name].values.tobytes() for name in dataset.variables}
            return {**values, "settings": settings}
    return {"content": file.read_bytes()}


def results(root: Path, experiment: str) -> dict[str, Path]:
    """Checkpoints, scores, predictions and tables, by their paths below the root."""
    places = (
        f"results/{experiment}/**/[!.]*.nc",
        f"results/{experiment}/*.csv",
        f"results/{experiment}/summary.md",
        "models/**/*.safetensors",
    )
    return {
        str(file.relative_to(root)): file for place in places for file in sorted(root.glob(place))
    }


def main(one: Path, other: Path, experiment: str) -> int:
    first, second = results(one, experiment), results(other, experiment)
    if not first or first.keys() != second.keys():
        print(f"not the same files: {sorted(first.keys() ^ second.keys())[:5]}")
        return 1
    differing = [name for name in first if bits(first[name]) != bits(second[name])]
    for name in differing:
        print(f"differs: {name}")
    kinds = Counter(Path(name).suffix for name in first)
    print("equal:" if not differing else "compared:", dict(kinds))
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
