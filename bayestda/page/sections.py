"""Make sections of the page from scores: in short, tests, agreement of methods, labels."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from bayestda import statistics
from bayestda.page import drawings, tables
from bayestda.page.model import Cell, Section, Table
from bayestda.page.words import COLUMNS, ONE_RUN, SEEDS
from bayestda.plots import style

LEVEL = 0.05
RELIABLE = 0.5  # of a map: from here on most of its variance over pairs is signal
MOST_SEEDS = 10_000
MOST_LABELS = 20  # of a heat map
Scores = Mapping[str, xr.DataArray]


def of_scores(scores: Scores, called: Callable[[Any], str]) -> list[Section]:
    """Return all sections that scores alone allow.

    Args:
        scores: Scores of dims (seed, checkpoint, train, test) by method, of the same examples.
        called: Function from a label to its name.
    """
    tested = {name: own for name, own in scores.items() if own.sizes["seed"] > 1}
    few = {name: own for name, own in scores.items() if _has_few_labels(own)}
    sections = [
        summary(tested) if tested else Section("summary", "In short", ONE_RUN),
        effects(tested),
        agreement(scores),
        by_label(few, called),
    ]
    return [one for one in sections if one.name == "summary" or one.drawings or one.tables]


def summary(scores: Scores) -> Section:
    """Return how far scores can be trusted, and what to do where no pair can be.

    Args:
        scores: Scores of two seeds or more, by method.
    """
    pairs = {name: statistics.pair_reliability(statistics.run_means(own))
             for name, own in scores.items()}  # fmt: skip
    maps = {name: _map_reliability(own) for name, own in scores.items()}
    rows = [
        [Cell(style.label(name)), *_numbers(own), Cell(_tiny(maps[name]))]
        for name, own in pairs.items()
    ]
    counts = sorted({own.attrs["num_seeds"] for own in pairs.values()})
    table = Table("Reliability", ["method", *COLUMNS], rows, {**COLUMNS, **_by_chance(counts)})
    return Section("summary", "In short", (SEEDS, *_next_steps(pairs, maps)), tables=[table])


def _by_chance(counts: list[int]) -> dict[str, str]:
    """Return what the column of signs means, with what it would be of noise alone."""
    chance = [f"{statistics.expected_sign_agreement(n):.0%} with {n} seeds" for n in counts]
    return {"same sign": f"{COLUMNS['same sign']}; by chance {', '.join(chance)}"}


def _numbers(pairs: xr.Dataset) -> list[Cell]:
    """Return a method's row of the table, without the reliability of its map."""
    return [
        Cell(_tiny(float(pairs["p"].mean()))),
        *(Cell(f"{float((pairs[name] < LEVEL).mean()):.0%}") for name in ("p", "q")),
        Cell(f"{float(pairs['sign_agreement'].mean()):.0%}"),
        Cell(_seeds(pairs)),
    ]


def _tiny(value: float) -> str:
    return style.short(value).replace("0.", ".", 1)


def _seeds(pairs: xr.Dataset) -> str:
    count = float(np.median(pairs["seeds_needed"]))
    return f"{count:,.0f}" if count <= MOST_SEEDS else f"over {MOST_SEEDS:,}"


def _map_reliability(scores: xr.DataArray) -> float:
    table = statistics.reliability(scores).set_index("quantity")
    return float(table.loc["reliability", "value"])


def _next_steps(pairs: Mapping[str, xr.Dataset], maps: Mapping[str, float]) -> list[str]:
    """Return what can be read from these scores, and what would make them better."""
    shares = {name: float((own["q"] < LEVEL).mean()) for name, own in pairs.items()}
    hopeless = [name for name, share in shares.items() if not share]
    if not hopeless:
        return [
            "Pairs with q below .05 can be read one by one: set the filter of the explorer to .05, "
            "and at most one in twenty of the pairs it shows is expected to have no effect."
        ]
    names = ", ".join(style.label(name) for name in hopeless)
    of_whom = "No single pair" if len(hopeless) == len(pairs) else f"No single pair of {names}"
    return [
        f"{of_whom} passes at a false discovery rate of 5 %, so do not read the lists of the "
        "explorer pair by pair. What to do next:",
        *(_advice(name, pairs[name], maps[name]) for name in hopeless),
    ]


def _advice(name: str, pairs: xr.Dataset, reliability: float) -> str:
    """Return what to do with a method none of whose pairs passes."""
    seeds = (
        f"{style.label(name)} has {pairs.attrs['num_seeds']} seeds; a pair of the median effect "
        f"needs at least {_seeds(pairs)} for a power of .8 at level .05."
    )
    if reliability >= RELIABLE:
        return (
            f"{seeds} Train more seeds, or use the map as a whole, which has a reliability of "
            f"{_tiny(reliability)}: rankings, correlations and means over groups need no single "
            "pair."
        )
    return (
        f"{seeds} Train more seeds: the map as a whole has a reliability of {_tiny(reliability)}, "
        "so means over large groups of examples are the most that can be read from it today."
    )


def effects(scores: Scores) -> Section:
    """Return histograms of p-values over all pairs, by method."""
    text = (
        "Student's t-test of each pair: is the mean score over seeds zero? If no pair had an "
        "effect, all bars would reach the dashed line.",
    )
    drawn = [
        drawings.p_values(name, statistics.student_t(own)["p"].values)
        for name, own in scores.items()
    ]
    return Section("effects", "Is there an effect?", text, drawn)


def agreement(scores: Scores) -> Section:
    """Return heat maps of the correlations between methods; of one method there are none."""
    text = (
        "Correlations between the mean scores of two methods over all pairs; positive = the same "
        "training examples are found helpful.",
    )
    kinds = ("pearson", "spearman") if len(scores) > 1 else ()
    shown = [tables.correlations(scores, kind) for kind in kinds]
    return Section("agreement", "Do the methods agree?", text, tables=shown)


def by_label(scores: Scores, called: Callable[[Any], str]) -> Section:
    """Return heat maps of mean scores by the labels of the pair.

    Args:
        scores: Scores by method; those without labels are left out.
        called: Function from a label to its name.
    """
    text = (
        "Mean scores of all pairs with these two labels, as multiples of the method's largest one. "
        "Blue: training examples with this label help; orange: they harm.",
    )
    shown = [tables.by_label(style.label(name), own, called) for name, own in scores.items()
             if statistics.is_labelled(own)]  # fmt: skip
    return Section("labels", "Which labels help which?", text, tables=shown)


def _has_few_labels(scores: xr.DataArray) -> bool:
    labels = [scores[f"{split}_label"].values for split in ("train", "test")
              if f"{split}_label" in scores.coords]  # fmt: skip
    return all(1 < len(np.unique(one)) <= MOST_LABELS for one in labels)
