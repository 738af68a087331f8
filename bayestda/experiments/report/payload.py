"""The explorer's data: JSON that describes it, and blocks of packed numbers."""

import base64
import io
from collections.abc import Iterable

import numpy as np
from PIL import Image

from bayestda.experiments.report import encoding
from bayestda.experiments.report.model import Examples, Method, Pictures, Report, Rows
from bayestda.experiments.report.pairs import most_extreme, pair_table
from bayestda.experiments.report.plan import Plan, plan

TILES_IN_ROW = 30
QUALITY = 92  # of colour photographs, which are shown compressed with loss


def explorer(report: Report, max_bytes: float) -> tuple[dict, dict[str, str]]:
    """What the explorer's script reads.

    Args:
        report: what to show.
        max_bytes: what examples and scores may take in the file.

    Returns:
        The description, and packed blocks by name: ``kept``, and ``pairs-<method>`` and
        ``samples-<method>`` for each method.
    """
    train = content(report.train)
    chosen = chosen_tests(report, max_bytes - _size(train) - _size(content(report.test)))
    test = report.test.take(chosen.tests)
    scores = {name: m.scores.isel(test=chosen.tests) for name, m in report.methods.items()}
    tables = {
        name: pair_table(method.scores).isel(test=chosen.tests)
        for name, method in report.methods.items()  # q-values are over all pairs
    }
    kept_MK = most_extreme(list(tables.values()), chosen.num_sampled)
    blocks = {"kept": encoding.packed(kept_MK.astype("<u2"))}
    for name, table in tables.items():
        blocks[f"pairs-{name}"] = encoding.encode_pairs(table)
        blocks[f"samples-{name}"] = encoding.encode_samples(scores[name], table["mean"], kept_MK)
    description = {
        "name": report.name,
        "kind": report.kind,
        "all_tests": len(report.test.index),
        "sampled": int(kept_MK.shape[1]),
        "steps": {"q": encoding.Q_STEPS, "agreement": encoding.AGREEMENT_STEPS},
        "levels": encoding.LEVELS,
        "methods": [_described(name, method) for name, method in report.methods.items()],
        "train": {**_named(report.train), **train},
        "test": {**_named(test), **content(test)},
        "predictions": predicted(report, chosen.tests),
    }
    return description, blocks


def chosen_tests(report: Report, max_bytes: float) -> Plan:
    """Which test examples fit, and how many of their training examples have samples."""
    samples = sum(
        method.scores.sizes["seed"] * method.scores.sizes["checkpoint"]
        for method in report.methods.values()
    )
    sizes = len(report.train.index), len(report.test.index)
    return plan(*sizes, len(report.methods), samples, max_bytes)


def content(examples: Examples) -> dict:
    """What examples are, for the script: a sprite, columns and rows, or sentences."""
    shown = examples.content
    if isinstance(shown, Pictures):
        return {"sprite": sprite(shown.pixels), "across": TILES_IN_ROW,
                "size": list(shown.pixels.shape[1:3])}  # fmt: skip
    if isinstance(shown, Rows):
        values = [[_short(value) for value in row] for row in shown.values.to_numpy()]
        return {"columns": [str(name) for name in shown.values.columns], "rows": values}
    return {"texts": list(shown.texts)}


def sprite(pixels: np.ndarray) -> str:
    """All images as tiles of one, 30 in a row, as a ``data:`` address."""
    rows = -(-len(pixels) // TILES_IN_ROW)
    padded = np.zeros((rows * TILES_IN_ROW, *pixels.shape[1:]), np.uint8)
    padded[: len(pixels)] = pixels
    tiles = padded.reshape(rows, TILES_IN_ROW, *pixels.shape[1:]).swapaxes(1, 2)
    whole = tiles.reshape(rows * pixels.shape[1], TILES_IN_ROW * pixels.shape[2], *pixels.shape[3:])
    buffer = io.BytesIO()
    kind = "png" if whole.ndim == 2 else "webp"
    Image.fromarray(whole).save(buffer, kind, quality=QUALITY, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def predicted(report: Report, tests: np.ndarray) -> dict | None:
    """Predictions for the test examples that are shown."""
    if report.predictions is None:
        return None
    found = report.predictions.take(tests)
    return {
        "said": list(found.said),
        "right": None if found.right is None else [bool(right) for right in found.right],
        "classes": list(found.classes),
        "probability": [[round(float(p), 3) for p in row] for row in found.probability_MK],
    }


def _described(name: str, method: Method) -> dict:
    scores = method.scores
    return {
        "name": name,
        "label": method.label,
        "colour": method.colour,
        "note": method.note,
        "seed": method.seed,
        "checkpoint": method.checkpoint,
        "seeds": [str(seed) for seed in scores["seed"].values],
        "checkpoints": [str(checkpoint) for checkpoint in scores["checkpoint"].values],
    }


def _named(examples: Examples) -> dict:
    return {"index": [int(number) for number in examples.index], "label": list(examples.label)}


def _short(value: float) -> str:
    return f"{float(value):.6g}"


def _size(described: dict) -> int:
    """Bytes of what an example is, in the file."""

    def letters(value: object) -> int:
        if isinstance(value, str):
            return len(value) + 3
        return sum(map(letters, value)) if isinstance(value, Iterable) else 3

    return sum(letters(value) for value in described.values())
