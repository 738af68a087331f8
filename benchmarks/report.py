"""What the benchmarks share: a clock, a table as markdown and CSV, a flag's type."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from bayestda.files import atomic


def seconds(work: Callable[[], object], device: str = "cpu", repeats: int = 1) -> float:
    """Median wall time of ``work`` in seconds; on a GPU until its last kernel has ended."""
    on_gpu = torch.device(device).type == "cuda"
    times = []
    for _ in range(repeats):
        if on_gpu:
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        work()
        if on_gpu:
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def markdown(table: pd.DataFrame) -> str:
    """The table in markdown, numbers to three digits."""
    cells = [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    lines = [list(table.columns), ["---"] * len(table.columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def publish(table: pd.DataFrame, notes: list[str], output: Path | None) -> None:
    """Print the table as markdown, the notes, and the table as CSV; also to files.

    Args:
        table: the results.
        notes: a paragraph each.
        output: path without ending for ``.md`` and ``.csv``, or None.

    Raises:
        UserError: the files cannot be written.
    """
    text = "\n\n".join([markdown(table), *notes]) + "\n"
    csv = table.to_csv(index=False, float_format="%.6g")
    print(f"{text}\n{csv}", end="")
    if output is not None:
        for ending, content in ((".md", text), (".csv", csv)):
            path = output.with_name(output.name + ending)
            atomic.write_whole(path, lambda file, content=content: file.write_text(content))


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
