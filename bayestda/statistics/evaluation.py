"""How well do scores predict a ground truth, and which method does so best?

Letters of array names: L measures, T methods.
"""

from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np
import pandas as pd
import xarray as xr

from bayestda.errors import UserError
from bayestda.statistics.correlation import KINDS, SCOPES
from bayestda.statistics.ground_truth import Problem, detection, pose, retraining, subsets
from bayestda.statistics.intervals import jackknife_interval
from bayestda.statistics.jackknife import (
    LeftOut,
    from_halves,
    holm,
    left_out,
    value_interval,
    zero_p,
)


def loo_correlation(
    scores: xr.DataArray, loo: xr.DataArray, kind: str = "pearson", scope: str = "all_pairs"
) -> float:
    """Correlation of mean scores with mean scores of leaving out examples or groups.

    Args:
        scores, loo: dims (seed[, checkpoint], train or group, test); positive = helpful.
        kind: ``pearson`` or ``spearman``.
        scope: ``all_pairs``, or ``per_test``: over training examples, mean over test points.

    Raises:
        UserError: dims, names or values of the two are wrong or do not fit; no such kind or scope.
    """
    problem = retraining({"scores": scores}, loo)
    if (kind, scope) not in problem.measures:
        raise UserError(
            f"no correlation of kind {kind!r} and scope {scope!r}: kinds are {', '.join(KINDS)}, "
            f"scopes {', '.join(SCOPES)}"
        )
    return float(problem.measures[kind, scope](problem.mean_maps())[0, 1])


def linear_datamodelling_score(
    scores: xr.DataArray, loss: xr.DataArray, included: xr.DataArray
) -> float:
    r"""Linear datamodelling score, LDS (Park et al. 2023, arXiv 2303.14186).

    Per test point Spearman's correlation over subsets of the training set between the sum of the
    included examples' scores and minus the loss of models retrained on the subset; mean over test
    points. Including helpful examples lowers the loss, so good scores have a positive LDS.

    Args:
        scores: dims (seed[, checkpoint], train, test); positive = helpful.
        loss: of the retrained models, dims (seed[, checkpoint], subset, test).
        included: booleans of dims (subset, train).

    Raises:
        UserError: dims, names or values of the three are wrong or do not fit.
    """
    return _only(subsets({"scores": scores}, loss, included))


def detection_auc(scores: xr.DataArray, corrupted: xr.DataArray) -> float:
    """Area under the ROC curve with which scores detect corrupted training examples.

    Args:
        scores: self-influence, dims (seed[, checkpoint], train), large = suspicious; or dims
            (seed[, checkpoint], train, test), positive = helpful: minus the mean over test points
            is what is suspicious.
        corrupted: booleans of dim train.

    Raises:
        UserError: dims, names or values of the two are wrong or do not fit.
    """
    return _only(detection({"scores": scores}, corrupted))


def evaluate(
    scores: xr.DataArray | Mapping[str, xr.DataArray], truth: xr.DataArray | xr.Dataset
) -> pd.DataFrame:
    r"""How well scores predict a ground truth, with 95 % intervals and what could be reached.

    The truth says by its form what is measured, on means over the seeds of each:

    - scores of leaving out, dims (seed[, checkpoint], train or group, test), positive = helpful:
      Pearson's and Spearman's correlation over all pairs, and per test point and averaged
      (:func:`loo_correlation`). For what labels alone do not tell, pass
      :func:`bayestda.statistics.within_labels` of both;
    - losses of models trained on random subsets: a ``Dataset`` with ``loss``, dims
      (seed[, checkpoint], subset, test), and ``included``, booleans of dims (subset, train)
      (:func:`linear_datamodelling_score`);
    - booleans of dim train, true = corrupted (:func:`detection_auc`).

    Args:
        scores: of one method, or by name, dims (seed[, checkpoint], train or group, test); always
            positive = helpful. Runs of one seed name are the same model, here and in the truth.
        truth: one of these; without the dim seed it is taken as given and has no ceiling.

    Returns:
        A row per method, ``metric`` and ``scope``:
        ``value``;
        ``low_seed``, ``high_seed``: Student's interval from the jackknife over seeds (Fisher's
        scale; a shared seed is left out of both, others of scores and truth in turn) for the value
        expected of as many seeds on the same queries; not a number below three seeds;
        ``low_query``, ``high_query``: likewise over queries, for the value of these models on other
        queries: test points, and in detection training examples. Of many, random groups are left
        out at a time;
        ``ceiling``: the root of the truth's split-half reliability, raised to all its seeds by
        Spearman-Brown: no noise-free prediction is expected to exceed it (for Spearman
        approximately; per test point it is that of the mean reliability, which is never too low);
        ``cross_half``: the mean of one half of the seeds against the truth of the other, mean over
        splits, only where both have the same seeds. Models that are shared make ``value`` too large
        or too small, this not;
        ``cross_half_corrected``: divided by the root of both split-half reliabilities: what
        infinitely many seeds would give;
        ``n_seeds``, ``n_truth_seeds``, ``n_queries``.

    Raises:
        UserError: dims, names or values are wrong or do not fit; the message says what to do.

    Sources: Efron and Stein 1981 and Kott 2001 (jackknife, of groups); Spearman 1904 and 1910.
    """
    problem = pose(scores, truth)
    value_LT, without = problem.values(problem.mean_maps()), left_out(problem)
    halved = from_halves(problem)
    rows = [
        {
            "method": method,
            "metric": metric,
            "scope": scope,
            "value": value_LT[cell],
            **_ends(problem, value_LT[cell], without, cell),
            "ceiling": halved.ceiling[cell[0]],
            "cross_half": halved.cross[cell],
            "cross_half_corrected": halved.corrected[cell],
            "n_seeds": len(problem.methods[method].seeds),
        }
        for (metric, scope), method, cell in _cells(problem)
    ]
    num_queries = problem.truth.maps_SAM.shape[-1]
    return pd.DataFrame(rows).assign(n_truth_seeds=len(problem.truth.seeds), n_queries=num_queries)


def compare(scores: Mapping[str, xr.DataArray], truth: xr.DataArray | xr.Dataset) -> pd.DataFrame:
    """Differences between every two methods in how well they predict a ground truth, paired.

    Args:
        scores, truth: as of :func:`evaluate`, with two methods or more.

    Returns:
        A row per two methods, ``metric`` and ``scope``: ``method_a``, ``method_b``,
        ``difference`` of their values, a less b, and for other models (``seed``) and for other
        queries (``query``) ``low_``, ``high_``: Student's 95 % interval from the jackknife, in
        which the same seed or query is left out of both methods and the truth; ``p_``: of a
        difference of zero, two-sided; ``p_holm_``: corrected for the number of pairs of methods,
        within a metric and scope (Holm 1979). Not a number below three seeds or queries. A
        difference that holds for other models *and* other queries is significant in both.

    Raises:
        UserError: less than two methods, or as of :func:`evaluate`.
    """
    problem = pose(scores, truth)
    if len(problem.methods) < 2:
        raise UserError("to compare takes two methods: scores must be a dict with two or more")
    value_LT, without = problem.values(problem.mean_maps()), left_out(problem)
    rows = [
        {
            "method_a": a,
            "method_b": b,
            "metric": metric,
            "scope": scope,
            **_difference(problem, value_LT[line], without, (line, a, b)),
        }
        for line, (metric, scope) in enumerate(problem.measures)
        for a, b in combinations(problem.methods, 2)
    ]
    table = pd.DataFrame(rows)
    for over in ("seed", "query"):
        by_measure = table.groupby(["metric", "scope"])[f"p_{over}"]
        table[f"p_holm_{over}"] = by_measure.transform(lambda p: holm(p.to_numpy()))
    return table


def _cells(problem: Problem) -> Iterator[tuple[tuple[str, str], str, tuple[int, int]]]:
    """Measure, method and their place in an array [L T]."""
    for line, measure in enumerate(problem.measures):
        for column, method in enumerate(problem.methods):
            yield measure, method, (line, column)


def _ends(problem: Problem, value: float, without: LeftOut, cell: tuple[int, int]) -> dict:
    """Ends of both intervals of one value."""
    runs = list(problem.methods.values())[cell[1]]
    by_seed = [factor[:, *cell] for factor in without.factors([runs, problem.truth])]
    ends: dict[str, float] = {}
    for over, factors in (("seed", by_seed), ("query", [without.by_query[:, *cell]])):
        interval = value_interval(value, factors, problem.lowest)
        ends |= {f"low_{over}": float(interval.low), f"high_{over}": float(interval.high)}
    return ends


def _difference(
    problem: Problem, values_T: np.ndarray, without: LeftOut, cell: tuple[int, str, str]
) -> dict:
    """Difference of two methods in one measure, with both intervals and p-values."""
    line, *names = cell
    a, b = (list(problem.methods).index(name) for name in names)
    by_seed = without.factors([*(problem.methods[name] for name in names), problem.truth])
    difference = values_T[a] - values_T[b]
    row = {"difference": difference}
    for over, factors in (("seed", by_seed), ("query", [without.by_query])):
        paired = [factor[:, line, a] - factor[:, line, b] for factor in factors]
        low, high = jackknife_interval(difference, paired)
        row |= {f"low_{over}": float(low), f"high_{over}": float(high)}
        row[f"p_{over}"] = zero_p(difference, paired)
    return row


def _only(problem: Problem) -> float:
    """The one value of a problem with one method and one measure."""
    return float(problem.values(problem.mean_maps())[0, 0])
