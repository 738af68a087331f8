"""Write a page of anyone's scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from bayestda.errors import UserError
from bayestda.files.provenance import versions
from bayestda.page import given, rendering, sections
from bayestda.page.model import Examples, Pictures, Report, Rows, Texts

TITLE = "Which training examples help, and which harm?"
KINDS = {Pictures: "image", Rows: "row", Texts: "text", type(None): "example"}


def write_page(
    path: str | Path,
    scores: xr.DataArray | xr.Dataset | Mapping[str, xr.DataArray],
    train_examples: Any = None,
    test_examples: Any = None,
    predictions: Any = None,
    *,
    classes: Sequence[str] | None = None,
    title: str = TITLE,
    max_mb: float = rendering.MAX_MB,
) -> Path:
    """Write one HTML file that shows scores and how far they can be trusted.

    The page loads nothing from anywhere. It lists the training examples that help and harm each
    test example most, with every single score, and says what to do if no score can be trusted.

    Args:
        path: File to write; its folder is made if needed.
        scores: Scores of dims (seed[, checkpoint], train, test), positive = helpful, as
            ``tda.attribute`` returns them; or several methods by name. One seed is enough to see
            the lists. The coordinates ``train_label`` and ``test_label`` are shown if there.
        train_examples: Examples in the order of the scores. Images are [N H W] or have 1 or 3
            channels, [N H W C] or [N C H W], as uint8 or floats from 0 to 1. Texts are strings.
            Tables are a ``DataFrame``, or numbers [N D]. None: names and labels alone are shown.
        test_examples: The same of the test split.
        predictions: Predicted labels or numbers [M] of the test examples, or probabilities [M K].
        classes: Names of the labels 0, 1, ...; None: labels are their own names.
        title: Title of the page.
        max_mb: Megabytes (10⁶ bytes) that examples and scores may take. If not all fits, single
            scores, then test examples, then training examples of small scores are left out.

    Returns:
        The path.

    Raises:
        UserError: What is given does not fit together, or the file cannot be written.
    """
    if not max_mb > 0:
        raise UserError(f"max_mb={max_mb} leaves no room: give some megabytes, for example 9")
    report = report_of(
        scores, (train_examples, test_examples), predictions, classes, (title, Path(path).stem)
    )
    return rendering.write(Path(path), report, max_mb)


def report_of(
    scores: xr.DataArray | xr.Dataset | Mapping[str, xr.DataArray],
    examples: tuple[Any, Any] = (None, None),
    predictions: Any = None,
    classes: Sequence[str] | None = None,
    names: tuple[str, str] = (TITLE, "page"),
) -> Report:
    """Return everything that :func:`write_page` shows.

    Args:
        scores, predictions, classes: Arguments of :func:`write_page`.
        examples: Training and test examples.
        names: Title of the page, and a short name that its foot shows.

    Raises:
        UserError: What is given does not fit together.
    """
    by_method = given.scores_by_method(scores)
    first, called = next(iter(by_method.values())), given.label_names(classes)
    train = given.examples(examples[0], first, "train", called)
    test = given.examples(examples[1], first, "test", called)
    return Report(
        name=names[1],
        title=names[0],
        facts=_facts(by_method),
        missing=[],
        methods={name: given.method(name, own) for name, own in by_method.items()},
        train=train,
        test=test,
        kind=_kind(train, test),
        predictions=given.predictions(predictions, test, called),
        sections=sections.of_scores(by_method, called),
        made_by=f"bayestda {versions()['version_bayestda']}",
    )


def _kind(train: Examples, test: Examples) -> str:
    """Return what an example is called.

    Raises:
        UserError: The two splits hold different things.
    """
    kinds = [KINDS[type(one.content)] for one in (train, test) if one.content is not None]
    if len(set(kinds)) > 1:
        raise UserError(
            f"train_examples are {kinds[0]}s and test_examples {kinds[1]}s: give the same kind "
            "twice, or None for one of them"
        )
    tables = [one.content.values.columns for one in (train, test) if isinstance(one.content, Rows)]
    if len(tables) == 2 and not tables[0].equals(tables[1]):
        raise UserError(
            "train_examples and test_examples have different columns: give both the same ones, in "
            "one order"
        )
    return kinds[0] if kinds else "example"


def _facts(scores: Mapping[str, xr.DataArray]) -> list[tuple[str, str]]:
    """Return the numbers of models and pairs."""
    sizes = next(iter(scores.values())).sizes
    models = {
        f"{own.sizes['seed']} seed{'s' * (own.sizes['seed'] > 1)} × {own.sizes['checkpoint']} "
        f"checkpoint{'s' * (own.sizes['checkpoint'] > 1)}"
        for own in scores.values()
    }
    return [
        ("models", ", ".join(sorted(models))),
        ("pairs", f"{sizes['train']:,} training × {sizes['test']:,} test examples"),
    ]
