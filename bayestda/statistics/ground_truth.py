"""Bring ground truths into one form: retraining without examples, on subsets, known corruption.

A method predicts, and the truth gives, one number for each *row* (a training example, a group, a
subset) and each *query* (a test point; in detection a training example). Letters of array names:
T methods and, last, the truth; S seeds; A rows; M queries; N train.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

from bayestda.errors import UserError
from bayestda.statistics.alignment import checked_runs, like
from bayestda.statistics.correlation import KINDS, SCOPES, correlation_matrix

# Values [T T] of maps [T A M]: how well each predicts each.
Measure = Callable[[np.ndarray], np.ndarray]


class Runs(NamedTuple):
    """Hold the maps of runs.

    Attributes:
        seeds: Names of the runs; none for a single map whose noise is not known.
        maps_SAM: One map per run.
    """

    seeds: tuple
    maps_SAM: np.ndarray

    def mean(self, without: Any = None) -> np.ndarray:
        """Return the mean map [A M] without one seed, unless that is the only one."""
        is_kept = [seed != without for seed in self.seeds]
        return self.maps_SAM[is_kept].mean(0) if any(is_kept) else self.maps_SAM.mean(0)


@dataclass(frozen=True)
class Problem:
    """Hold predictions, the truth they should predict, and the measures of their agreement.

    Attributes:
        methods: Runs of predictions, by method.
        truth: Runs of the truth.
        measures: Measures by (metric, scope).
        lowest: Value of the measures for a prediction that is always wrong; the highest is 1.
    """

    methods: dict[str, Runs]
    truth: Runs
    measures: dict[tuple[str, str], Measure]
    lowest: float = -1.0

    def mean_maps(self, without: Any = None) -> np.ndarray:
        """Return mean maps [T A M] of the methods and, last, the truth, without one seed."""
        return np.stack([runs.mean(without) for runs in (*self.methods.values(), self.truth)])

    def values(self, maps_TAM: np.ndarray) -> np.ndarray:
        """Return values [measure, method] for maps of the methods and, last, the truth."""
        # The last column of a measure's matrix is the truth; its row is left out.
        return np.array([measure(maps_TAM)[:-1, -1] for measure in self.measures.values()])


def pose(scores: xr.DataArray | Mapping[str, xr.DataArray], truth: Any) -> Problem:
    """Return the problem that a ground truth poses.

    Args:
        scores: Scores in the form of :func:`bayestda.statistics.evaluate`.
        truth: A truth in one of the forms of :func:`bayestda.statistics.evaluate`.

    Raises:
        UserError: Scores or truth have another form.
    """
    methods = _by_name(scores)
    if isinstance(truth, xr.Dataset) or "subset" in getattr(truth, "dims", ()):
        return subsets(methods, *_loss_and_included(truth))
    if not isinstance(truth, xr.DataArray):
        raise UserError(f"truth must be an xarray.DataArray or Dataset, not {type(truth)}")
    if "test" in truth.dims:
        return retraining(methods, truth)
    return detection(methods, truth)


def retraining(methods: Mapping[str, xr.DataArray], truth: xr.DataArray) -> Problem:
    """Compare scores with those of leaving out examples (dim train) or groups (dim group).

    Raises:
        UserError: Dims, names or values are wrong or do not fit.
    """
    row = "group" if "group" in truth.dims else "train"
    measures: dict[tuple[str, str], Measure] = {
        (kind, scope): partial(correlation_matrix, kind=kind, scope=scope)
        for kind in KINDS
        for scope in SCOPES
    }
    runs = {name: _runs(scores, row, truth, name) for name, scores in methods.items()}
    return Problem(runs, _truth_runs(truth, row), measures)


def subsets(
    methods: Mapping[str, xr.DataArray], loss: xr.DataArray, included: xr.DataArray
) -> Problem:
    """Compare sums of included examples' scores with minus the loss of models trained on them.

    Raises:
        UserError: Dims, names or values are wrong or do not fit.
    """
    included = _checked_included(included, loss)
    # A subset's prediction is the sum of its examples' scores: [A N] @ [S N M].
    included_AN = included.values.astype(np.float64)
    runs = {}
    for name, scores in methods.items():
        checked = checked_runs(scores, ("train", "test"), _named(name))
        checked = like(like(checked, loss, "test", _named(name)), included, "train", _named(name))
        runs[name] = Runs(_seeds(checked), included_AN @ checked.values)
    truth = _truth_runs(-loss, "subset")
    measure = partial(correlation_matrix, kind="spearman", scope="per_test")
    return Problem(runs, truth, {("lds", "per_test"): measure})


def detection(methods: Mapping[str, xr.DataArray], corrupted: xr.DataArray) -> Problem:
    """Compare how suspicious scores find training examples with which of them are corrupted.

    Raises:
        UserError: Dims, names or values are wrong or do not fit.
    """
    if corrupted.dims != ("train",) or corrupted.dtype != bool:
        raise UserError(
            f"truth with the dims {corrupted.dims} and type {corrupted.dtype} has no known form: "
            "give scores of retraining (seed, train or group, test), losses on subsets "
            "(seed, subset, test), or marks of corrupted examples, boolean with dim train"
        )
    if corrupted.all() or not corrupted.any():
        raise UserError("truth marks all or no examples as corrupted: detection needs both kinds")
    runs = {name: _suspicion(scores, corrupted, name) for name, scores in methods.items()}
    truth = Runs((), corrupted.values.astype(np.float64)[None, None])
    return Problem(runs, truth, {("auroc", "all_train"): auroc}, lowest=0.0)


def auroc(maps_TAM: np.ndarray) -> np.ndarray:
    """Return areas under the ROC curve [T T]; only the truth's column, the last, has numbers.

    Args:
        maps_TAM: Maps of the methods and, last, the truth's marks of 0 and 1.
    """
    marked_Q = maps_TAM[-1].ravel() > 0
    area_TT = np.full((len(maps_TAM), len(maps_TAM)), np.nan)
    if marked_Q.any() and not marked_Q.all():
        values_TQ = maps_TAM.reshape(len(maps_TAM), -1)
        area_TT[:, -1] = area_under_curve(values_TQ[None], marked_Q[None])[0]
    return area_TT


def _suspicion(scores: xr.DataArray, corrupted: xr.DataArray, name: str) -> Runs:
    """Self-influence, or minus the mean score over test points: [S 1 N]."""
    has_test = "test" in getattr(scores, "dims", ())
    runs = checked_runs(scores, ("train", "test") if has_test else ("train",), _named(name))
    runs = like(runs, corrupted, "train", _named(name))
    return Runs(_seeds(runs), (-runs.mean("test") if has_test else runs).values[:, None])


def _runs(scores: xr.DataArray, row: str, truth: xr.DataArray, name: str) -> Runs:
    runs = checked_runs(scores, (row, "test"), _named(name))
    for dim in (row, "test"):
        runs = like(runs, truth, dim, _named(name))
    return Runs(_seeds(runs), runs.values)


def _truth_runs(truth: xr.DataArray, row: str) -> Runs:
    """Runs of the truth; without the dim seed its noise is not known."""
    if "seed" not in truth.dims:
        return Runs((), checked_runs(truth.expand_dims(seed=[0]), (row, "test"), "truth").values)
    runs = checked_runs(truth, (row, "test"), "truth")
    return Runs(_seeds(runs), runs.values)


def _loss_and_included(truth: xr.DataArray | xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    if isinstance(truth, xr.DataArray) or not {"loss", "included"} <= set(truth.variables):
        raise UserError(
            "truth about subsets needs 'loss' (seed, subset, test) and which examples each was "
            "trained on: xr.Dataset({'loss': ..., 'included': ...}), with booleans (subset, train)"
        )
    return truth["loss"], truth["included"]


def _checked_included(included: xr.DataArray, loss: xr.DataArray) -> xr.DataArray:
    if set(included.dims) != {"subset", "train"} or included.dtype != bool:
        raise UserError(
            f"'included' must be boolean with the dims (subset, train), is {included.dtype} with "
            f"{included.dims}"
        )
    return like(included.transpose("subset", "train"), loss, "subset", "'included'")


def _by_name(scores: xr.DataArray | Mapping[str, xr.DataArray]) -> Mapping[str, xr.DataArray]:
    if isinstance(scores, xr.DataArray):
        return {str(scores.name or "scores"): scores}
    if not isinstance(scores, Mapping) or isinstance(scores, xr.Dataset) or not scores:
        raise UserError("scores must be an xarray.DataArray, or a dict with one for each method")
    return scores


def _named(method: str) -> str:
    return f"scores of {method!r}"


def _seeds(runs: xr.DataArray) -> tuple:
    return tuple(runs["seed"].values.tolist())


def area_under_curve(values: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return the area under the receiver operating characteristic [S R].

    It is the share of pairs of a positive and a negative example in which the positive one has the
    larger value; ties count half (Mann and Whitney).

    Args:
        values: Values of the examples [S R N].
        positive: Booleans [S N], true for the kind to detect; both kinds must occur.
    """
    # The sum of the positives' ranks, less its smallest possible value, counts these pairs.
    rank_SRN = stats.rankdata(values, axis=-1)
    count_S1 = positive.sum(-1)[:, None]
    total_SR = (rank_SRN * positive[:, None]).sum(-1)
    pairs_S1 = count_S1 * (positive.shape[-1] - count_S1)
    return (total_SR - count_S1 * (count_S1 + 1) / 2) / pairs_S1
