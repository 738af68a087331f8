"""Measure seconds, and write tables as markdown and CSV, for all benchmarks."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from bayestda.files import atomic


def seconds(work: Callable[[], object], device: str = "cpu", repeats: int = 1) -> float:
    """Return the median wall time of ``work`` in seconds; on a GPU until its last kernel ended."""
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
    """Return the table in markdown, numbers to three digits."""
    cells = [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    lines = [list(table.columns), ["---"] * len(table.columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def publish(table: pd.DataFrame, notes: list[str], output: Path | None) -> None:
    """Print the table as markdown, the notes, and the table as CSV; also to files.

    Args:
        table: Results.
        notes: Paragraphs.
        output: Path without ending for ``.md`` and ``.csv``, or None.

    Raises:
        UserError: The files cannot be written.
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
