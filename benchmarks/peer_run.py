"""One side of a row in a process of its own: its scores, seconds and peak memory.

Started by peers.py; reads the case that it wrote, and writes scores and numbers beside it.
"""

import json
import sys
import time
import warnings
from argparse import ArgumentParser
from pathlib import Path

import torch
from peer_cases import read
from peer_sides import SIDES
from peer_sides.settings import Projected
from safetensors.torch import save_file

REPEAT_S = 3.0  # work faster than this is repeated for about as long
MOST_REPEATS = 15


def main() -> None:
    """Run the side that the command line names."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("case")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--columns", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    flags = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers' own
    torch.set_num_threads(flags.threads)
    torch.manual_seed(0)
    case = read(flags.case, flags.folder / "case.safetensors").first(flags.columns)
    work = SIDES[flags.side](case)
    before_kb = _reset_peak()
    result, times = None, []
    while not times or (sum(times) < REPEAT_S and len(times) < MOST_REPEATS):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
        if len(times) == 1:
            peak_kb = _status("VmHWM")
    measured = {"seconds": min(times), "peak_mb": (peak_kb - before_kb) / 1024}
    tensors = {}
    if isinstance(result, Projected):
        tensors["projection"] = result.projection().contiguous()
        result = result.scores_NM
    tensors["scores"] = result.detach().contiguous()
    save_file(tensors, flags.folder / "result.safetensors", {"measured": json.dumps(measured)})


def _reset_peak() -> int:
    """Forget the peak of imports and data; resident memory now, in kB.

    ``ru_maxrss`` cannot be reset, and begins with what the parent process had.
    """
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    sys.exit(f"error: /proc/self/status has no {key}: peak memory is measured on Linux only")


if __name__ == "__main__":
    main()
