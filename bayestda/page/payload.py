"""Make the explorer's data: JSON that describes it, and blocks of packed numbers."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from bayestda.page import encoding
from bayestda.page.model import Examples, Method, Pictures, Report, Rows, Texts
from bayestda.page.pairs import most_extreme, pair_table, shortlist
from bayestda.page.pictures import shrunk, sprite
from bayestda.page.plan import Plan, Sizes, plan

MANY = 200  # examples whose size in the file is measured before all of them are written


def explorer(report: Report, max_bytes: float) -> tuple[dict, dict[str, str]]:
    """Return what the explorer's script reads.

    Args:
        report: Everything to show.
        max_bytes: Bytes that examples and scores may take in the file.

    Returns:
        The description, and packed blocks by name: ``kept``, and ``pairs-<method>`` and
        ``samples-<method>`` for each method.
    """
    chosen = chosen_examples(report, max_bytes)
    tables = {
        name: pair_table(method.scores).isel(test=chosen.tests)
        for name, method in report.methods.items()  # q-values are over all pairs
    }
    trains = shortlist(list(tables.values()), chosen.num_train)
    tables = {name: table.isel(train=trains) for name, table in tables.items()}
    kept_MK = most_extreme(list(tables.values()), chosen.num_sampled)
    blocks = {"kept": encoding.packed(kept_MK.astype("<u4"))}
    for name, table in tables.items():
        scores = report.methods[name].scores.isel(test=chosen.tests, train=trains)
        blocks[f"pairs-{name}"] = encoding.encode_pairs(table)
        blocks[f"samples-{name}"] = encoding.encode_samples(scores, table["mean"], kept_MK)
    return described(report, trains, chosen.tests, kept_MK.shape[1]), blocks


def described(report: Report, trains: np.ndarray, tests: np.ndarray, num_sampled: int) -> dict:
    """Return the description: names, labels and contents of the examples, and the methods.

    Args:
        report: Everything that could be shown.
        trains, tests: Places of the examples that are.
        num_sampled: Number of training examples with single scores.
    """
    return {
        "name": report.name,
        "kind": report.kind,
        "label": report.label,
        "all_tests": len(report.test.index),
        "all_train": len(report.train.index),
        "sampled": num_sampled,
        "steps": {"q": encoding.Q_STEPS, "agreement": encoding.AGREEMENT_STEPS},
        "levels": encoding.LEVELS,
        "methods": [_method(name, method) for name, method in report.methods.items()],
        "train": content(report.train.take(trains)),
        "test": content(report.test.take(tests)),
        "predictions": predicted(report, tests),
    }


def chosen_examples(report: Report, max_bytes: float) -> Plan:
    """Choose the examples that fit, and how many training examples have single scores."""
    samples = sum(
        method.scores.sizes["seed"] * method.scores.sizes["checkpoint"]
        for method in report.methods.values()
    )
    sizes = Sizes(
        num_train=len(report.train.index),
        num_test=len(report.test.index),
        pairs=len(report.methods),
        samples=samples,
        train_bytes=mean_bytes(report.train),
        test_bytes=mean_bytes(report.test),
    )
    return plan(sizes, max_bytes)


def content(examples: Examples) -> dict[str, Any]:
    """Return names and labels, and what examples are: a sprite, rows and columns, or texts."""
    known = {"index": examples.index.tolist(), "label": list(examples.label)}
    shown = examples.content
    if isinstance(shown, Pictures):
        return {**known, **sprite(shrunk(shown.pixels))}
    if isinstance(shown, Rows):
        values = [[_short(value) for value in row] for row in shown.values.itertuples(index=False)]
        return {**known, "columns": [str(name) for name in shown.values.columns], "rows": values}
    return {**known, "texts": list(shown.texts)} if isinstance(shown, Texts) else known


def mean_bytes(examples: Examples) -> float:
    """Return the bytes of one example in the file, measured on up to 200 of them."""
    count = len(examples.index)
    places = np.linspace(0, count - 1, min(count, MANY)).round().astype(int)
    return _size(content(examples.take(places))) / len(places)


def predicted(report: Report, tests: np.ndarray) -> dict | None:
    """Return the predictions for the test examples that are shown."""
    if report.predictions is None:
        return None
    found = report.predictions.take(tests)
    return {
        "said": list(found.said),
        "right": None if found.right is None else [bool(right) for right in found.right],
        "classes": list(found.classes),
        "probability": [[round(float(p), 4) for p in row] for row in found.probability_MK],
    }


def _method(name: str, method: Method) -> dict:
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


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value)


def _size(described: dict) -> int:
    """Return how many letters a description takes in the file."""

    def letters(value: object) -> int:
        if isinstance(value, str):
            return len(value) + 3
        return sum(map(letters, value)) if isinstance(value, Iterable) else len(str(value)) + 1

    return sum(letters(value) for value in described.values())
