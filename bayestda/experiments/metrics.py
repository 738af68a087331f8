"""Quantities that say how far scores can be trusted: each has one entry in :data:`METRICS`.

An entry says how the quantity is computed, and what it is called in its table, in the figure of
that table, in the summary and on the page. A new quantity is one more entry; docs/extending.md has
an example.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from bayestda import statistics
from bayestda.experiments.sample import Estimate, Sample
from bayestda.statistics import significance

SCOPES = ("all_pairs", "within_labels")
SHARE = (0.0, 1.0)


class Column(NamedTuple):
    """A metric's column in the summary.

    Attributes:
        heading: Heading of the column.
        note: How the page explains it; "": by the metric's meaning.
        scope: Which pairs it is about, of tables that have scopes.
        limits: Ends of an interval beyond these are cut off.
    """

    heading: str
    note: str = ""
    scope: str = "all_pairs"
    limits: tuple[float, float] = (-np.inf, np.inf)


Compute = Callable[[Sample], float | Estimate | None]


@dataclass(frozen=True)
class Metric:
    """A quantity of a method's scores.

    Attributes:
        name: Column of p_values.csv, or value of the column ``quantity`` of reliability.csv.
        table: Table that holds it: ``p_values``, ``reliability`` or ``correlations``.
        meaning: How the page explains it.
        compute: Function from a sample to the value, an estimate, or None where it is not defined.
            None for ``correlations``, which are computed for all pairs of methods at once.
        with_loo: Whether it compares the method with LOO.
        scopes: Pairs that reliability.csv has it for.
        label: Line of the table's figure that shows it; "": it is not drawn.
        summary: Column of the summary; None: it has none.
        rows: Values of the columns that identify it in correlations.csv.
    """

    name: str
    table: str
    meaning: str = ""
    compute: Compute | None = None
    with_loo: bool = False
    scopes: tuple[str, ...] = SCOPES
    label: str = ""
    summary: Column | None = None
    rows: Mapping[str, str] = field(default_factory=dict)


def of_table(table: str, with_loo: bool | None = None) -> list[Metric]:
    """Return the metrics of a table, in its order; None: with LOO or without."""
    own = [metric for metric in METRICS.values() if metric.table == table]
    return own if with_loo is None else [one for one in own if one.with_loo == with_loo]


def in_summary() -> Iterator[tuple[Metric, Column]]:
    """Yield the metrics that have a column in the summary, in its order."""
    for metric in METRICS.values():
        if metric.summary:
            yield metric, metric.summary


def summary_notes() -> dict[str, str]:
    """Return the page's explanation of each column of the summary, by its heading."""
    return {column.heading: column.note or metric.meaning for metric, column in in_summary()}


def column_notes() -> dict[str, str]:
    """Return the page's explanations of columns of the tables, by the column's name."""
    found = {one.name: one.meaning for one in of_table("p_values") if one.meaning}
    quantities = [f"{one.name}: {one.meaning}" for one in of_table("reliability") if one.meaning]
    return {**found, "quantity": "; ".join(quantities)}


def cells(metric: Metric, sample: Sample) -> dict[str, float]:
    """Return a metric's columns of p_values.csv: the value, and the ends of its interval."""
    computed = metric.compute(sample) if metric.compute else None
    if isinstance(computed, Estimate):
        ends = {f"{metric.name}_low": computed.low, f"{metric.name}_high": computed.high}
        return {metric.name: computed.value, **ends}
    return {metric.name: float("nan") if computed is None else float(computed)}


def estimate(metric: Metric, sample: Sample) -> Estimate | None:
    """Return a metric as an estimate, or None where it is not defined."""
    computed = metric.compute(sample) if metric.compute else None
    return computed if computed is None or isinstance(computed, Estimate) else Estimate(computed)


def _tested(name: str, meaning: str, compute: Compute, summary: Column | None = None) -> Metric:
    return Metric(name, "p_values", meaning, compute, summary=summary)


def _alone(name: str, meaning: str, **more) -> Metric:
    """A quantity of :func:`bayestda.statistics.reliability`."""
    return Metric(name, "reliability", meaning, lambda one: one.reliability.get(name), **more)


def _with_loo(name: str, meaning: str, **more) -> Metric:
    """A quantity of :func:`bayestda.statistics.agreement`."""

    def compute(sample: Sample) -> Estimate | None:
        return sample.agreement.get(name)

    return Metric(name, "reliability", meaning, compute, with_loo=True, **more)


def _correlated(kind: str, meaning: str) -> Metric:
    rows = {"statistic": "mean", "kind": kind}
    column = Column(f"{kind.capitalize()} with LOO")
    return Metric(kind, "correlations", meaning, with_loo=True, summary=column, rows=rows)


def _mean_p(sample: Sample) -> Estimate:
    interval = statistics.mean_p_interval(sample.runs)
    return Estimate(float(sample.pairs["p"].mean()), float(interval.low), float(interval.high))


def _share_below(name: str) -> Compute:
    return lambda sample: float((sample.pairs[name] < significance.LEVEL).mean())


def _mean_of(name: str) -> Compute:
    return lambda sample: float(sample.pairs[name].mean())


def _seeds_needed(sample: Sample) -> float:
    return float(statistics.seeds_needed(statistics.signal_to_noise(sample.runs)).median())


def _expected(of_seeds: Callable[[int], float]) -> Compute:
    return lambda sample: of_seeds(sample.runs.sizes["seed"])


def _mean_pairwise_std(sample: Sample) -> float | None:
    if sample.test_loss is None:
        return None
    variance = statistics.pooled_pair_variance(sample.scores, sample.test_loss)
    return float(np.sqrt(variance).mean())


_NO_EFFECT = "what it would be if no pair had an effect, as all columns expected_..."

METRICS = {
    metric.name: metric
    for metric in (
        _tested(
            "mean_p",
            "mean over all pairs of the p-value of Student's t-test over seeds; .5 if no pair had "
            "an effect",
            _mean_p,
            Column("mean p", limits=SHARE),
        ),
        _tested("expected_mean_p", _NO_EFFECT, lambda _: 0.5),
        _tested(
            "share_p_below_05",
            "share of pairs whose p-value is below .05; 5 % if no pair had an effect",
            _share_below("p"),
            Column("p < .05"),
        ),
        _tested(
            "share_q_below_05",
            "share of pairs that are found at a false discovery rate of 5 % (Benjamini-Hochberg)",
            _share_below("q"),
            Column("q < .05"),
        ),
        _tested(
            "sign_agreement",
            "share of seeds that agree with the majority's sign, mean over pairs; with ten seeds "
            "62 % by chance",
            _mean_of("sign_agreement"),
            Column("same sign"),
        ),
        _tested("expected_sign_agreement", "", _expected(statistics.expected_sign_agreement)),
        _tested(
            "mean_published_p",
            "the released code's statistic, which is no p-value",
            _mean_of("published_p"),
        ),
        _tested("expected_published_p", "", _expected(statistics.expected_published_p)),
        _tested("median_seeds_needed", "seeds for a power of .8 at level .05", _seeds_needed),
        _tested("mean_std", "", _mean_of("std")),
        _tested("mean_pairwise_std", "", _mean_pairwise_std),
        _correlated(
            "pearson",
            "correlation of mean scores with mean LOO over all pairs; positive = the same examples "
            "are found helpful",
        ),
        _correlated("spearman", "the same for ranks"),
        _alone(
            "split_half",
            "correlation between the mean scores of two halves of the seeds",
            label="split half",
            summary=Column("split-half"),
        ),
        _alone(
            "label_share",
            "part of the mean scores' variance that the labels of the pair determine",
            scopes=("all_pairs",),
        ),
        _alone("reliability", "of the mean over all seeds", label="reliability of\nthe mean"),
        _alone(
            "ceiling",
            "largest correlation that anything free of noise can have with it",
            label="ceiling for any\ncorrelation",
        ),
        _with_loo(
            "correlation",
            "mean scores with mean LOO",
            label="means over seeds",
            summary=Column(
                "within labels",
                "Pearson with LOO of scores less their mean over all pairs with the same two "
                "labels: what the labels alone do not tell",
                scope="within_labels",
            ),
        ),
        _with_loo("corrected", "correlation divided by the root of both reliabilities"),
        _with_loo("cross_half", "mean scores of one half of the seeds, LOO of the other"),
        _with_loo(
            "cross_half_corrected",
            "cross_half divided by the root of both split-half correlations",
            label="noise-free means\n(cross half, corrected)",
        ),
        _with_loo(
            "same_seed", "single runs, both of the same seed", label="single runs,\nsame seed"
        ),
        _with_loo("cross_seed", "single runs of different seeds", label="single runs,\nother seed"),
        _with_loo(
            "same_minus_cross",
            "above zero where a score explains its own model",
            label="same minus\nother seed",
        ),
    )
}
