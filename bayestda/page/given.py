"""Turn what a person has into what a page shows: scores, examples, predictions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayestda.errors import UserError
from bayestda.page.drawings import themed
from bayestda.page.model import Content, Examples, Method, Pictures, Predictions, Rows, Texts
from bayestda.page.pictures import as_pixels
from bayestda.page.words import NOTES
from bayestda.plots import style
from bayestda.statistics.alignment import checked_runs

SPLITS = ("train", "test")
NO_SETTINGS = ("method", "sign", "coordinates")  # attributes of scores, beside version_<package>


def scores_by_method(scores: Any) -> dict[str, xr.DataArray]:
    """Return scores of dims (seed, checkpoint, train, test) by method, of the same examples.

    Args:
        scores: An array of dims (seed[, checkpoint], train, test), or several by method.

    Raises:
        UserError: They are no such arrays, not finite, or of different examples.
    """
    if isinstance(scores, xr.DataArray):
        scores = {str(scores.name or scores.attrs.get("method", "scores")): scores}
    elif isinstance(scores, xr.Dataset):
        scores = dict(scores.data_vars)
    if not isinstance(scores, Mapping) or not scores:
        raise UserError(
            f"scores must be an xarray.DataArray, or a dict or Dataset of several, got "
            f"{type(scores).__name__}: give what tda.attribute returns"
        )
    first = next(iter(scores.values()))
    return {str(name): _like_first(str(name), own, first) for name, own in scores.items()}


def _like_first(name: str, scores: Any, first: xr.DataArray) -> xr.DataArray:
    """Return scores with all dims in order, and examples in the order of the first method."""
    checked_runs(scores, SPLITS, f"scores of {name}")
    for split in SPLITS:
        have, want = scores[split].values, first[split].values
        if len(set(want.tolist())) < len(want):
            raise UserError(
                f"scores of {name} have two {split} examples of one name: give each its own in the "
                f"coordinate {split!r}"
            )
        if len(have) != len(want) or set(have.tolist()) != set(want.tolist()):
            raise UserError(
                f"scores of {name} are of other {split} examples than those of the first method: "
                f"select those that both have with .sel({split}=...)"
            )
        scores = scores.sel({split: want}) if split in scores.coords else scores
    if "checkpoint" not in scores.dims:
        scores = scores.drop_vars("checkpoint", errors="ignore").expand_dims(checkpoint=["all"])
    return scores.transpose("seed", "checkpoint", *SPLITS)


def method(name: str, scores: xr.DataArray) -> Method:
    """Return a method with its colour, its name in words and its settings."""
    settings = [f"{key} = {value}" for key, value in _settings(scores)]
    note = " ".join(filter(None, [NOTES.get(name, ""), f"{', '.join(settings)}." * bool(settings)]))
    has_epochs = scores["checkpoint"].values.tolist() != ["all"]
    return Method(
        style.label(name), themed(style.colour(name)), note, scores,
        checkpoint="checkpoint" if has_epochs else "score",
    )  # fmt: skip


def _settings(scores: xr.DataArray) -> list[tuple[str, Any]]:
    return [
        (str(key), value)
        for key, value in scores.attrs.items()
        if key not in NO_SETTINGS and not str(key).startswith("version_")
    ]


def label_names(classes: Sequence[str] | None) -> Callable[[Any], str]:
    """Return a function from a label to its name.

    Args:
        classes: Names of the labels 0, 1, ...; None: labels are their own names.
    """

    def called(label: Any) -> str:
        if classes is None or isinstance(label, str):
            return str(label)
        place = int(label) if isinstance(label, (int, np.integer)) else -1
        if not 0 <= place < len(classes):
            raise UserError(
                f"classes has {len(classes)} names, but there is the label {str(label)!r}: give a "
                "name for each label 0, 1, ..., or leave classes out"
            )
        return str(classes[place])

    return called


def examples(
    given: Any, scores: xr.DataArray, split: str, called: Callable[[Any], str]
) -> Examples:
    """Return the examples of one split.

    Args:
        given: Images, texts, a table, or None.
        scores: Scores whose coordinates name the examples and their labels.
        split: ``train`` or ``test``.
        called: Function from a label to its name.

    Raises:
        UserError: They are of no known kind, or not as many as the scores are of.
    """
    index = scores[split].values
    if index.dtype.kind not in "iu":
        index = index.astype(str)
    labels = scores.coords.get(f"{split}_label")
    words = [""] * len(index) if labels is None else [called(label) for label in labels.values]
    return Examples(index, words, content(given, f"{split}_examples", len(index)))


def content(given: Any, what: str, count: int) -> Content:
    """Return what examples are.

    Args:
        given: Images [N H W] or with channels, numbers [N D], a ``DataFrame``, strings, or None.
        what: Name of the argument in messages.
        count: Number of examples that the scores are of.

    Raises:
        UserError: They are of no known kind, or another number of them.
    """
    if given is None:
        return None
    given = _as_table_or_array(given, what)
    if len(given) != count:
        raise UserError(
            f"{what} has {len(given)} examples, but the scores are of {count}: give those that the "
            "scores are of, in their order"
        )
    if isinstance(given, pd.DataFrame):
        return Rows(given)
    if given.ndim == 1 and all(isinstance(text, str) for text in given):
        return Texts(given.tolist())
    if given.dtype.kind in "buif" and given.ndim in (3, 4):
        return Pictures(as_pixels(given, what))
    if given.dtype.kind in "buif" and given.ndim == 2:
        return Rows(pd.DataFrame(given).rename(columns=lambda column: f"x{column}"))
    raise UserError(
        f"{what} of shape {given.shape} and type {given.dtype} cannot be shown: give images "
        "[N H W] or [N H W C], strings, or a DataFrame"
    )


def _as_table_or_array(given: Any, what: str) -> Any:
    """Return a ``DataFrame`` as it is, anything else as an array."""
    if isinstance(given, pd.DataFrame):
        return given
    if hasattr(given, "detach"):  # a tensor, without an import of torch
        given = given.detach().cpu()
    try:
        if isinstance(given, (list, tuple)):
            is_text = all(isinstance(one, str) for one in given)
            given = given if is_text else [np.asarray(one) for one in given]
        return np.asarray(given)
    except TypeError as error:  # of a tensor: NumPy has no bfloat16
        raise UserError(f"{what} cannot be read ({error}): convert it with .float()") from error
    except ValueError as error:
        raise UserError(
            f"{what} are of different shapes: give images of one size, strings, or a DataFrame"
        ) from error


def predictions(given: Any, test: Examples, called: Callable[[Any], str]) -> Predictions | None:
    """Return what the model says about the test examples.

    Args:
        given: Labels or numbers [M], probabilities of classes [M K], or None.
        test: Test examples.
        called: Function from a label to its name.

    Raises:
        UserError: They are of another shape, or no probabilities.
    """
    if given is None:
        return None
    array, count = _as_table_or_array(given, "predictions"), len(test.index)
    if array.ndim not in (1, 2) or len(array) != count:
        raise UserError(
            f"predictions have the shape {array.shape}, but there are {count} test examples: give "
            f"labels or numbers [{count}], or probabilities of classes [{count} K]"
        )
    if array.ndim == 2:
        return _probabilities(np.asarray(array, float), test, called)
    none = np.zeros((count, 0))
    if array.dtype.kind == "f":
        return Predictions([style.number(f"{value:.4g}") for value in array], None, [], none)
    said = [called(label) for label in array]
    return Predictions(said, _right(said, test), [], none)


def _probabilities(
    probability_MK: np.ndarray, test: Examples, called: Callable[[Any], str]
) -> Predictions:
    sums_M = probability_MK.sum(1)
    if not ((probability_MK >= 0).all() and np.allclose(sums_M, 1, atol=1e-3)):
        raise UserError(
            f"predictions [M K] must be probabilities, but rows sum to {sums_M.min():.4g} up to "
            f"{sums_M.max():.4g}: apply softmax over the last axis first"
        )
    names = [called(label) for label in range(probability_MK.shape[1])]
    if not set(test.label) <= {"", *names}:
        unknown = sorted({*test.label} - {*names})[0]
        raise UserError(
            f"predictions [M K] are of the classes {names[0]} to {names[-1]}, but there is the "
            f"label {unknown!r}: give the names of the columns as classes"
        )
    chosen = [names[k] for k in probability_MK.argmax(1)]
    said = [f"{name} (probability {p:.2f})"
            for name, p in zip(chosen, probability_MK.max(1), strict=True)]  # fmt: skip
    return Predictions(said, _right(chosen, test), names, probability_MK)


def _right(chosen: Sequence[str], test: Examples) -> np.ndarray | None:
    """Return whether predictions are the labels; None: there are no labels."""
    if not any(test.label):
        return None
    return np.array([one == label for one, label in zip(chosen, test.label, strict=True)])
