"""This library against its peers: seconds, peak memory, agreement with the exact scores.

    python3.11 -m venv .venv_peers
    .venv_peers/bin/pip install -r req.txt
    .venv_peers/bin/pip install --no-deps -r benchmarks/peers.txt
    PYTHONPATH=. .venv_peers/bin/python benchmarks/peers.py

Both sides run in that one environment, on the same parameters and examples, with the same number
of threads (--threads, all cores by default), each in a process of its own: one call to warm up,
whose peak memory is kept, then calls for about three seconds, of which the fastest counts. What
takes longer than that runs once. Importing and reading the examples count on no side. Slow peers
score only the first test examples; the column share says how many, and seconds are multiplied out.

The script ends with an error where our scores, or those of a peer that is not known to be wrong,
are further from the exact ones than the row allows.

Reads   data/mnist3/, scikit-learn's digits
Writes  a markdown table and CSV to stdout; with --output PREFIX also PREFIX.md and PREFIX.csv
"""

import json
import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
import peer_cases
import torch
from peer_cases import BUILDERS, Case
from peer_exact import EXACT, projected
from peer_rows import ROWS, Row
from report import publish
from safetensors import safe_open
from torch import Tensor

from bayestda.errors import UserError
from bayestda.experiments.flags import count
from bayestda.experiments.terminal import guarded


@dataclass(frozen=True)
class Result:
    """What one side took and gave.

    Attributes:
        scores_NM: for the first test examples.
        projection_Pk: of TRAK.
        seconds: of one call.
        peak_mb: above what imports and data take.
        share: of the test examples.
    """

    scores_NM: Tensor
    projection_Pk: Tensor | None
    seconds: float
    peak_mb: float
    share: float


Measure = Callable[[str, Case, int | None], Result]


def in_process(threads: int) -> Measure:
    """Measures a side of a case, on some test examples or all, in a process of its own."""

    def measure(side: str, case: Case, columns: int | None) -> Result:
        total = len(case.test[1])
        columns = min(columns or total, total)
        with tempfile.TemporaryDirectory() as folder:
            peer_cases.write(case, Path(folder) / "case.safetensors")
            script = Path(__file__).with_name("peer_run.py")
            command = [sys.executable, str(script), side, case.name, folder]
            command += ["--columns", str(columns), "--threads", str(threads)]
            run = subprocess.run(command, capture_output=True, text=True)
            if run.returncode:
                lines = run.stderr.strip().splitlines() or ["no message"]
                raise UserError(f"{side} on {case.name} failed: {lines[-1]}")
            return _read(Path(folder) / "result.safetensors", columns / total)

    return measure


def _read(path: Path, share: float) -> Result:
    with safe_open(path, framework="pt") as file:
        measured = json.loads(file.metadata()["measured"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return Result(tensors["scores"], tensors.get("projection"), share=share, **measured)


def compare(rows: Sequence[Row], cases: dict[str, Case], measure: Measure) -> pd.DataFrame:
    """A line for each row; our side is measured once for all rows that it is in.

    Raises:
        UserError: some scores are not what they should be.
    """
    ours = cache(lambda side, name, columns: measure(side, cases[name], columns))
    exact = cache(lambda quantity, name: EXACT[quantity](cases[name].double()))
    lines = []
    for row in rows:
        mine = ours(row.ours, row.case, row.our_columns)
        theirs = measure(row.peer, cases[row.case], row.columns)
        errors = [_error(side, row, cases[row.case], exact) for side in (mine, theirs)]
        lines.append(_line(row, (mine, theirs), errors))
        print(" | ".join(map(_short, lines[-1].values())), file=sys.stderr)
        _check(row, *(error["error"] for error in errors))
    return pd.DataFrame(lines)


def agreement(found: Tensor, exact: Tensor, free_scale: bool) -> dict[str, float]:
    """Pearson's r, and the largest difference in units of the largest exact score.

    Args:
        found, exact: scores [N M]; what is NaN in ``exact`` is not known and not compared.
        free_scale: multiply what was found by the constant that fits best.
    """
    known = ~exact.isnan()
    found, exact = found.double()[known], exact[known]
    if free_scale:
        found = found * (found @ exact) / (found @ found)
    r = torch.corrcoef(torch.stack([found, exact]))[0, 1].item()
    return {"r": r, "error": ((found - exact).abs().max() / exact.abs().max()).item()}


def _error(side: Result, row: Row, case: Case, exact: Callable[..., Tensor]) -> dict[str, float]:
    if side.projection_Pk is None:
        exact_NM = exact(row.exact, row.case)
    else:
        exact_NM = projected(case.double(), side.projection_Pk)
    columns = side.scores_NM.shape[1]
    return agreement(side.scores_NM, exact_NM[:, :columns], free_scale=row.free_scale)


def _check(row: Row, ours: float, theirs: float) -> None:
    named = {row.ours: (ours, row.tolerance), row.peer: (theirs, row.peer_tolerance)}
    for name, (error, tolerance) in named.items():
        if not error <= tolerance:
            raise UserError(
                f"{name} on {row.case} is wrong by {error:.2g} of the largest score, more than "
                f"{tolerance:g}"
            )


def _line(row: Row, sides: tuple[Result, Result], errors: list[dict[str, float]]) -> dict:
    ours_s, peer_s = (side.seconds / side.share for side in sides)
    return {
        "case": row.case,
        "ours": row.ours.removeprefix("ours: "),
        "peer": row.peer,
        "ours_s": ours_s,
        "peer_s": peer_s,
        "share": sides[1].share,
        "ratio": peer_s / ours_s,
        "ours_MB": sides[0].peak_mb,
        "peer_MB": sides[1].peak_mb,
        "ours_error": errors[0]["error"],
        "peer_error": errors[1]["error"],
        "ours_r": errors[0]["r"],
        "peer_r": errors[1]["r"],
    }


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _notes(threads: int, load: float) -> list[str]:
    return [
        f"{threads} threads on both sides. ratio: the peer's seconds over ours. error: largest "
        "difference to the exact scores in float64, in units of the largest; r: Pearson.",
        f"Load average before the run: {load:.1f}; much above 0 the machine was busy with other "
        "work and the numbers are to be measured again.",
    ]


def _parse() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=BUILDERS, help="only this one")
    parser.add_argument("--peer", default="", help="only rows whose peer's name contains this")
    parser.add_argument("--threads", type=count, default=os.cpu_count(), help="all cores")
    parser.add_argument("--output", type=Path, metavar="PREFIX", help="also write files")
    return parser.parse_args()


def _main() -> None:
    flags, load = _parse(), os.getloadavg()[0]
    torch.set_num_threads(flags.threads)
    rows = [row for row in ROWS if flags.case in (None, row.case) and flags.peer in row.peer]
    if not rows:
        raise UserError(f"--peer {flags.peer!r} is in no row: see benchmarks/peer_rows.py")
    cases = {name: BUILDERS[name]() for name in {row.case: None for row in rows}}
    table = compare(rows, cases, in_process(flags.threads))
    publish(table, _notes(flags.threads, load), flags.output)


if __name__ == "__main__":
    guarded(_main)
