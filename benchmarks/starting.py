"""Seconds until a script has shown its help or refused a wrong flag, in two checkouts.

    git worktree add --detach ../before ec48769
    python benchmarks/starting.py --before ../before

The checkouts take turns, so that other work on the machine slows both. The first turn fills the
file cache and is not counted. The package was called ``tda`` before.

Reads   the scripts of both checkouts
Writes  a markdown table and CSV to stdout; with --output PREFIX also PREFIX.md and PREFIX.csv
Takes   1 minute on an idle CPU core
"""

import os
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

import pandas as pd
from report import publish

from bayestda.experiments import paths
from bayestda.experiments.flags import count
from bayestda.experiments.terminal import guarded

SAME = {
    f"{script} {flags}": (f"{script} {flags}",) * 2
    for script, flags in (
        ("tda_cnn_scripts/loo.py", "--help"),
        ("tda_cnn_scripts/loo.py", "--layers 7"),
        ("tda_vit_scripts/influence.py", "--help"),
        ("tda_fimo_scripts/approximate.py", "--help"),
        ("tda_distributional_scripts/concrete.py", "--help"),
    )
}
COMMANDS = {**SAME, "import bayestda": ("import tda", "import bayestda")}  # before, and now


def seconds(command: str, checkout: Path) -> float:
    """Run a command of a checkout once; an import is timed without the interpreter's start."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    code = (
        f"import time; start = time.perf_counter(); {command}; print(time.perf_counter() - start)"
    )
    arguments = ["-c", code] if command.startswith("import ") else command.split()
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=checkout, env=environment, capture_output=True, text=True
    )
    return float(done.stdout) if arguments[0] == "-c" else time.perf_counter() - start


def compare(before: Path, repeats: int) -> pd.DataFrame:
    """Return medians of both checkouts, a row for each command."""
    rows = []
    for name, commands in COMMANDS.items():
        turns = [
            [seconds(command, checkout)
             for command, checkout in zip(commands, (before, paths.REPOSITORY), strict=True)]
            for _ in range(1 + repeats)
        ]  # fmt: skip
        before_s, now_s = (statistics.median(times) for times in zip(*turns[1:], strict=True))
        ratio = before_s / now_s
        rows.append({"command": name, "before_s": before_s, "now_s": now_s, "ratio": ratio})
    return pd.DataFrame(rows)


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="folder of the older checkout")
    parser.add_argument("--repeats", type=count, default=7, help="turns that are counted")
    parser.add_argument("--output", type=Path, metavar="PREFIX", help="also write files")
    return parser.parse_args()


def _main() -> None:
    flags = _parse()
    load = os.getloadavg()[0]
    table = compare(flags.before.resolve(), flags.repeats)
    notes = [f"Medians of {flags.repeats} turns. Load average before the run: {load:.1f}."]
    publish(table, notes, flags.output)


if __name__ == "__main__":
    guarded(_main)
