"""Evaluate how well scores predict a ground truth, and compare methods in it.

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
    """Return the correlation of mean scores with mean scores of leaving out examples or groups.

    Args:
        scores: Scores with dims (seed[, checkpoint], train or group, test); positive = helpful.
        loo: Scores from retraining, with the same dims and sign.
        kind: ``pearson`` or ``spearman``.
        scope: ``all_pairs``; or ``per_test``, over training examples, averaged over test points.

    Raises:
        UserError: Dims, names or values of the two are wrong or do not fit, or kind or scope is
            unknown.
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
    r"""Return the linear datamodelling score, LDS (Park et al. 2023, arXiv 2303.14186).

    For each test point it is Spearman's correlation, over subsets of the training set, between the
    sum of the included examples' scores and minus the loss of models retrained on the subset. The
    LDS is the mean over test points. Including helpful examples lowers the loss, so good scores
    have a positive LDS.

    Args:
        scores: Scores with dims (seed[, checkpoint], train, test); positive = helpful.
        loss: Losses of the retrained models, dims (seed[, checkpoint], subset, test).
        included: Booleans with dims (subset, train), True for the examples of a subset.

    Raises:
        UserError: Dims, names or values of the three are wrong or do not fit.
    """
    return _only(subsets({"scores": scores}, loss, included))


def detection_auc(scores: xr.DataArray, corrupted: xr.DataArray) -> float:
    """Return the area under the ROC curve with which scores detect corrupted training examples.

    Args:
        scores: Self-influence with dims (seed[, checkpoint], train), where large is suspicious; or
            scores with dims (seed[, checkpoint], train, test), positive = helpful, of which minus
            the mean over test points is the suspicion.
        corrupted: Booleans with dim train.

    Raises:
        UserError: Dims, names or values of the two are wrong or do not fit.
    """
    return _only(detection({"scores": scores}, corrupted))


def evaluate(
    scores: xr.DataArray | Mapping[str, xr.DataArray], truth: xr.DataArray | xr.Dataset
) -> pd.DataFrame:
    r"""Return how well scores predict a ground truth, with 95 % intervals and a ceiling.

    The form of the truth decides what is measured, on means over the seeds of each:

    - Scores of leaving out, dims (seed[, checkpoint], train or group, test), positive = helpful,
      give Pearson's and Spearman's correlation, over all pairs, and per test point and averaged
      (:func:`loo_correlation`). To see what labels alone do not tell, pass
      :func:`bayestda.statistics.within_labels` of both.
    - Losses of models trained on random subsets give the LDS
      (:func:`linear_datamodelling_score`). They come as a ``Dataset`` with ``loss``, dims
      (seed[, checkpoint], subset, test), and ``included``, booleans with dims (subset, train).
    - Booleans with dim train, true = corrupted, give the area under the ROC curve
      (:func:`detection_auc`).

    Args:
        scores: Scores of one method, or of several by name, with dims
            (seed[, checkpoint], train or group, test); always positive = helpful. Runs with the
            same seed name are the same model, also across scores and truth.
        truth: One of the forms above; without the dim seed it has no known noise and no ceiling.

    Returns:
        A row per method, ``metric`` and ``scope``, with the columns

        ``value``: The metric on the means over seeds.

        ``low_seed``, ``high_seed``: Student's interval from the jackknife over seeds, on Fisher's
        scale, for the value expected from as many seeds on the same queries. A shared seed is left
        out of scores and truth together, other seeds of each in turn. NaN below three seeds.

        ``low_query``, ``high_query``: The same over queries, for the value of these models on
        other queries. Queries are test points, in detection training examples. If there are many,
        random groups of them are left out.

        ``ceiling``: The root of the truth's split-half reliability, raised to all its seeds by
        Spearman-Brown. No noise-free prediction is expected to exceed it. It is approximate for
        Spearman; per test point it is that of the mean reliability, which is never too low.

        ``cross_half``: The metric between scores of one half of the seeds and the truth of the
        other half, averaged over splits, where both have the same seeds. Shared models can make
        ``value`` too large or too small, but not this.

        ``cross_half_corrected``: ``cross_half`` divided by the root of both split-half
        reliabilities, an estimate of the value from infinitely many seeds.

        ``n_seeds``, ``n_truth_seeds``, ``n_queries``: Numbers of each.

    Raises:
        UserError: Dims, names or values are wrong or do not fit; the message says what to do.

    Sources: Efron and Stein 1981 and Kott 2001 (jackknife, of groups); Spearman 1904 and 1910.
    """
    problem = pose(scores, truth)
    value_LT, replicates = problem.values(problem.mean_maps()), left_out(problem)
    halved = from_halves(problem)
    rows = [
        {
            "method": method,
            "metric": metric,
            "scope": scope,
            "value": value_LT[cell],
            **_ends(problem, value_LT[cell], replicates, cell),
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
    """Return paired differences between every two methods in how well they predict a truth.

    Args:
        scores: Scores of two methods or more, by name, in the form of :func:`evaluate`.
        truth: A ground truth in one of the forms of :func:`evaluate`.

    Returns:
        A row per two methods, ``metric`` and ``scope``, with the columns ``method_a``,
        ``method_b`` and ``difference``, the value of a less that of b. The following columns exist
        for other models (with the ending ``seed``) and for other queries (``query``), and are NaN
        below three seeds or queries:

        ``low_``, ``high_``: Student's 95 % interval from the jackknife, in which the same seed or
        query is left out of both methods and the truth.

        ``p_``: The two-sided p-value of a difference of zero.

        ``p_holm_``: The p-value corrected for the number of pairs of methods, within a metric and
        scope (Holm 1979).

        A difference that holds for other models *and* other queries is significant in both.

    Raises:
        UserError: There are less than two methods, or an array is wrong as in :func:`evaluate`.
    """
    problem = pose(scores, truth)
    if len(problem.methods) < 2:
        raise UserError("a comparison needs two methods: give scores as a dict with two or more")
    value_LT, replicates = problem.values(problem.mean_maps()), left_out(problem)
    rows = [
        {
            "method_a": a,
            "method_b": b,
            "metric": metric,
            "scope": scope,
            **_difference(problem, value_LT[row], replicates, (row, a, b)),
        }
        for row, (metric, scope) in enumerate(problem.measures)
        for a, b in combinations(problem.methods, 2)
    ]
    table = pd.DataFrame(rows)
    for over in ("seed", "query"):
        by_measure = table.groupby(["metric", "scope"])[f"p_{over}"]
        table[f"p_holm_{over}"] = by_measure.transform(lambda p: holm(p.to_numpy()))
    return table


def _cells(problem: Problem) -> Iterator[tuple[tuple[str, str], str, tuple[int, int]]]:
    """Measure, method and their cell in an array [L T]."""
    for row, measure in enumerate(problem.measures):
        for column, method in enumerate(problem.methods):
            yield measure, method, (row, column)


def _ends(problem: Problem, value: float, replicates: LeftOut, cell: tuple[int, int]) -> dict:
    """Ends of both intervals of one value."""
    runs = list(problem.methods.values())[cell[1]]
    by_seed = [factor[:, *cell] for factor in replicates.factors([runs, problem.truth])]
    ends: dict[str, float] = {}
    for over, factors in (("seed", by_seed), ("query", [replicates.by_query[:, *cell]])):
        interval = value_interval(value, factors, problem.lowest)
        ends |= {f"low_{over}": float(interval.low), f"high_{over}": float(interval.high)}
    return ends


def _difference(
    problem: Problem, values_T: np.ndarray, replicates: LeftOut, cell: tuple[int, str, str]
) -> dict:
    """Difference of two methods in one measure, with both intervals and p-values."""
    row, *names = cell
    a, b = (list(problem.methods).index(name) for name in names)
    by_seed = replicates.factors([*(problem.methods[name] for name in names), problem.truth])
    difference = values_T[a] - values_T[b]
    columns = {"difference": difference}
    for over, factors in (("seed", by_seed), ("query", [replicates.by_query])):
        # The same seed or query is left out of both, so that what they share cancels.
        differences = [factor[:, row, a] - factor[:, row, b] for factor in factors]
        low, high = jackknife_interval(difference, differences)
        columns |= {f"low_{over}": float(low), f"high_{over}": float(high)}
        columns[f"p_{over}"] = zero_p(difference, differences)
    return columns


def _only(problem: Problem) -> float:
    """The one value of a problem with one method and one measure."""
    return float(problem.values(problem.mean_maps())[0, 0])
