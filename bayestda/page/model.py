"""Describe what a page shows: examples, scores, predictions, and sections of figures and tables.

The explorer takes examples of any kind and scores of dims (seed, checkpoint, train, test). A seed
is whatever runs are independent of each other. A checkpoint is whatever is averaged within a run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

from bayestda.errors import UserError


@dataclass(frozen=True, eq=False)
class Pictures:
    """Hold images as uint8 [N H W] or [N H W 3]."""

    pixels: np.ndarray


@dataclass(frozen=True, eq=False)
class Rows:
    """Hold a table in readable units: a column for each feature, a row for each example."""

    values: pd.DataFrame


@dataclass(frozen=True)
class Texts:
    """Hold a text for each example."""

    texts: Sequence[str]


Content = Pictures | Rows | Texts | None


@dataclass(frozen=True, eq=False)
class Examples:
    """Hold the examples of one split as a person sees them.

    Attributes:
        index: Names [N] by which they are found, whole numbers or strings.
        label: Labels [N] in words: a class, a target with its unit, or "" if there is none.
        content: The examples themselves [N]; None: only their names and labels are known.
    """

    index: np.ndarray
    label: Sequence[str]
    content: Content = None

    def take(self, places: np.ndarray) -> "Examples":
        """Return the examples at these places."""
        chosen: Content = None
        if isinstance(self.content, Pictures):
            chosen = Pictures(self.content.pixels[places])
        elif isinstance(self.content, Rows):
            chosen = Rows(self.content.values.iloc[places])
        elif isinstance(self.content, Texts):
            chosen = Texts([self.content.texts[place] for place in places])
        return Examples(self.index[places], [self.label[place] for place in places], chosen)


@dataclass(frozen=True, eq=False)
class Method:
    """Hold the scores of one method.

    Attributes:
        label: Name of the method in words.
        colour: Colour of its marks, as CSS writes it.
        note: Sentence that says what a score is, or "".
        scores: Scores of dims (seed, checkpoint, train, test), positive = helpful.
        seed: Name of what a seed is, in the singular.
        checkpoint: Name of what a checkpoint is, in the singular.
    """

    label: str
    colour: str
    note: str
    scores: xr.DataArray
    seed: str = "seed"
    checkpoint: str = "checkpoint"


@dataclass(frozen=True, eq=False)
class Predictions:
    """Hold what the models say about the test examples.

    Attributes:
        said: Predictions [M] in words.
        right: Booleans [M] that say whether the prediction is the label; None: there are no labels.
        classes: Names [K] of the classes.
        probability_MK: Mean probabilities over models; [M 0] if there are no classes.
    """

    said: Sequence[str]
    right: np.ndarray | None
    classes: Sequence[str]
    probability_MK: np.ndarray

    def take(self, places: np.ndarray) -> "Predictions":
        """Return the predictions of the test examples at these places."""
        return Predictions(
            [self.said[place] for place in places],
            None if self.right is None else self.right[places],
            self.classes,
            self.probability_MK[places],
        )


@dataclass(frozen=True)
class Cell:
    """Hold a table's cell: its text, what stands small beside it, and the colour behind it."""

    text: str
    small: str = ""
    background: str = ""
    ink: str = ""


@dataclass(frozen=True)
class Table:
    """Hold a table and an explanation of each column that needs one.

    Attributes:
        title: Text above it.
        columns: Names, the first one that of the rows' headings.
        rows: Cells.
        explained: Explanations by column or word.
        folded: Whether it is shown only when asked for.
        source: Name of the file that has these numbers, or "".
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    explained: dict[str, str] = field(default_factory=dict)
    folded: bool = False
    source: str = ""


@dataclass(frozen=True)
class Drawing:
    """Hold a figure as inline SVG, its title, and how to read it."""

    title: str
    svg: str
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """Hold a part of the page: text, then figures, then tables."""

    name: str
    title: str
    text: Sequence[str] = ()
    drawings: Sequence[Drawing] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True, eq=False)
class Report:
    """Hold everything that a page shows.

    Attributes:
        name: Short name, which the page's foot and messages use.
        title: Title in words.
        facts: Pairs of a name and a value for the head of the page.
        missing: Sentences about what is not there and how to make it.
        methods: Methods by name.
        train: Training examples of the explorer.
        test: Test examples of the explorer.
        kind: Name of what an example is, in the singular, such as image or row.
        predictions: Predictions for the test examples; None: there are none.
        sections: Sections; the one named ``summary`` is above the explorer, others are below it.
        made_by: Name of the program that made the page.
        label: Name of what ``Examples.label`` holds: label or target.

    Raises:
        UserError: A method has scores of other examples.
    """

    name: str
    title: str
    facts: Sequence[tuple[str, str]]
    missing: Sequence[str]
    methods: dict[str, Method]
    train: Examples
    test: Examples
    kind: str
    predictions: Predictions | None
    sections: Sequence[Section]
    made_by: str
    label: str = "label"

    def __post_init__(self) -> None:
        for name, method in self.methods.items():
            for split, examples in (("train", self.train), ("test", self.test)):
                if not np.array_equal(method.scores[split].values, examples.index):
                    raise UserError(
                        f"scores of {name} in {self.name} are of other {split} examples than the "
                        f"first method's: select the same ones with .sel({split}=...), or make "
                        "the older scores again"
                    )

    @property
    def search_words(self) -> str:
        """Return what examples are found by, as in "number, word or label"."""
        is_numbered = all(self.__dict__[s].index.dtype.kind in "iu" for s in ("train", "test"))
        words = ["number" if is_numbered else "name"]
        if any(isinstance(one.content, Texts) for one in (self.train, self.test)):
            words.append("word")
        if any((*self.train.label, *self.test.label)):
            words.append(self.label)
        return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
