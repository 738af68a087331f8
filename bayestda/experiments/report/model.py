"""What a page shows: examples, scores of methods, predictions, and sections of figures and tables.

An explorer is for examples of any kind, and for scores of any dims (seed, checkpoint, train, test):
a seed is whatever runs are independent of each other, a checkpoint whatever is averaged within one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

from bayestda.errors import UserError


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images: uint8 [N H W] or [N H W 3]."""

    pixels: np.ndarray


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a table, in readable units: a column for each feature, a row for each example."""

    values: pd.DataFrame


@dataclass(frozen=True)
class Texts:
    """A sentence for each example."""

    texts: Sequence[str]


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples of one split, as a person sees them.

    Attributes:
        index: int64 [N], their numbers, by which they are found.
        label: [N] in words: a class, or a target with its unit.
        content: what they are, [N] of it.
    """

    index: np.ndarray
    label: Sequence[str]
    content: Pictures | Rows | Texts

    def take(self, places: np.ndarray) -> "Examples":
        """The examples at these places."""
        content = self.content
        if isinstance(content, Pictures):
            chosen: Pictures | Rows | Texts = Pictures(content.pixels[places])
        elif isinstance(content, Rows):
            chosen = Rows(content.values.iloc[places])
        else:
            chosen = Texts([content.texts[place] for place in places])
        return Examples(self.index[places], [self.label[place] for place in places], chosen)


@dataclass(frozen=True, eq=False)
class Method:
    """Scores of one method.

    Attributes:
        label: its name in words.
        colour: of its marks, as CSS writes it.
        note: what a score is, in a sentence.
        scores: dims (seed, checkpoint, train, test), positive = helpful.
        seed, checkpoint: what these two dims are, in the singular.
    """

    label: str
    colour: str
    note: str
    scores: xr.DataArray
    seed: str = "seed"
    checkpoint: str = "checkpoint"


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the models say about the test examples.

    Attributes:
        said: [M] in words.
        right: bool [M], whether the most probable class is the label; None: there are no classes.
        classes: [K] names of classes.
        probability_MK: mean over models; [M 0] if there are no classes.
    """

    said: Sequence[str]
    right: np.ndarray | None
    classes: Sequence[str]
    probability_MK: np.ndarray

    def take(self, places: np.ndarray) -> "Predictions":
        """Those of the test examples at these places."""
        return Predictions(
            [self.said[place] for place in places],
            None if self.right is None else self.right[places],
            self.classes,
            self.probability_MK[places],
        )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, what stands small beside it, and the colour behind it."""

    text: str
    small: str = ""
    background: str = ""
    ink: str = ""


@dataclass(frozen=True)
class Table:
    """A table with an explanation for each of its columns that needs one.

    Attributes:
        title: above it.
        columns: names, the first one that of the rows' headings.
        rows: cells.
        explained: column or word -> what it is.
        folded: whether it is shown only when asked for.
        source: the file whose numbers these are.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    explained: dict[str, str] = field(default_factory=dict)
    folded: bool = False
    source: str = ""


@dataclass(frozen=True)
class Drawing:
    """A figure as inline SVG, its title, and how to read it."""

    title: str
    svg: str
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page: text, then figures, then tables."""

    name: str
    title: str
    text: Sequence[str] = ()
    drawings: Sequence[Drawing] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that a page shows.

    Attributes:
        name: of the experiment.
        title: in words.
        facts: what it is, as pairs of a name and a value.
        missing: what is not there, with the command that makes it.
        methods: by name.
        train, test: examples of the explorer.
        kind: what an example is, in the singular: image, row, sentence.
        predictions: of the test examples; None: not there.
        sections: that of the name ``summary`` is above the explorer, others are below it.

    Raises:
        UserError: a method has scores of other examples.
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

    def __post_init__(self) -> None:
        for name, method in self.methods.items():
            for split, examples in (("train", self.train), ("test", self.test)):
                if not np.array_equal(method.scores[split].values, examples.index):
                    raise UserError(
                        f"scores of {name} in {self.name} are of other {split} examples than the "
                        "first method's: delete the older ones and run their stage again"
                    )
