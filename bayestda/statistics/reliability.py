"""Measure how reliable a map of scores is, and whether it explains this model or any model.

Everything here is a Pearson correlation over all train-test pairs, so it follows from the
covariances [S S] of the runs' maps, and the large maps are read only once. Letters of array names:
S seeds, Q pairs (train x test flattened), H splits of the seeds into halves.
"""

from collections.abc import Callable
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import xarray as xr

from bayestda.errors import UserError
from bayestda.statistics.alignment import run_means
from bayestda.statistics.intervals import Interval, fisher_z, jackknife_interval
from bayestda.statistics.labels import is_labelled, within_labels

_ALL_SPLITS = 1500  # all splits are taken up to this number, for up to twelve seeds; ten have 126
_RANDOM_SPLITS = 500  # splits drawn where there are more
# Quantities that are correlations, whose interval is computed on Fisher's scale.
_CORRELATIONS = frozenset({"split_half", "correlation", "cross_half", "same_seed", "cross_seed"})


def reliability(scores: xr.DataArray) -> pd.DataFrame:
    """Return the reliability of a method's mean map, with 95 % jackknife intervals over seeds.

    Args:
        scores: Scores with dims (seed, checkpoint, train, test); checkpoints are averaged.

    Returns:
        The columns quantity, value, low and high, with a row for each quantity:

        ``split_half``: The correlation of the mean maps of two halves of the seeds, averaged over
        splits.

        ``reliability``: The reliability of the mean over all seeds (Spearman-Brown).

        ``ceiling``: The root of the reliability, the largest correlation that anything noise-free
        can have with the mean map; 0 where the reliability is negative.

        ``label_share``: The share of the mean map's variance that the labels of the two examples
        determine, if scores have the coordinates train_label and test_label.

    Raises:
        UserError: There are less than two seeds.
    """
    runs_SQ = _flat(scores)
    within_SQ = _flat(within_labels(scores)) if is_labelled(scores) else None
    num_seeds = len(runs_SQ)

    def estimate(kept: np.ndarray) -> dict[str, float]:
        half = {"split_half": _split_half(_covariance(runs_SQ[kept], runs_SQ[kept]))}
        if within_SQ is None:
            return half
        total, within = (np.var(maps[kept].mean(0)) for maps in (runs_SQ, within_SQ))
        return half | {"label_share": float(1 - within / total) if total else float("nan")}

    table = _with_intervals(estimate, num_seeds).set_index("quantity")
    half = table.loc["split_half"]
    whole = half.map(lambda r: spearman_brown(r, num_seeds, num_seeds // 2))
    table.loc["reliability"] = whole
    table.loc["ceiling"] = whole.clip(lower=0) ** 0.5
    return table.reset_index()


def agreement(scores: xr.DataArray, reference: xr.DataArray) -> pd.DataFrame:
    """Return correlations of a method with a reference such as LOO, with jackknife intervals.

    Args:
        scores: Scores with dims (seed, checkpoint, train, test).
        reference: Scores with the same dims; equal seeds are the same models.

    Returns:
        The columns quantity, value, low and high (95 % over seeds), with a row for each quantity:

        ``correlation``: The correlation of the mean maps.

        ``corrected``: The correlation divided by the root of both reliabilities. This assumes
        independent noise, which is wrong here, as the two share their models.

        ``cross_half``: The correlation of the mean map of one half of the seeds with the
        reference's of the other half.

        ``cross_half_corrected``: ``cross_half`` divided by the root of both split-half
        correlations: the correlation of noise-free maps, without that assumption.

        ``same_seed``: The correlation of score and reference of the same model, averaged over
        seeds.

        ``cross_seed``: The correlation of the score of one model and the reference of another.

        ``same_minus_cross``: ``same_seed`` less ``cross_seed``, above zero where a score explains
        its own model and not only the training procedure.

    Raises:
        UserError: There are less than two seeds.
        ValueError: Seeds, training or test points differ.
    """
    scores, reference = xr.align(scores, reference, join="exact")
    x_SQ, y_SQ = _flat(scores), _flat(reference)

    def estimate(kept: np.ndarray) -> dict[str, float]:
        x, y = x_SQ[kept], y_SQ[kept]
        xx_SS, xy_SS, yy_SS = _covariance(x, x), _covariance(x, y), _covariance(y, y)
        return _agreement(xx_SS, xy_SS, yy_SS, len(x_SQ))

    return _with_intervals(estimate, len(x_SQ))


def halves(num_seeds: int, rng_seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return weights [H S] for the means of the first and the second half of the seeds.

    Halves are equal in size and disjoint; of an odd number of seeds each split leaves one out.
    Splits are all there are, if at most 1500, else 500 random ones.
    """
    half = num_seeds // 2
    if comb(num_seeds, half) * comb(num_seeds - half, half) // 2 <= _ALL_SPLITS:
        splits: list = [
            (first, second)
            for first in combinations(range(num_seeds), half)
            for second in combinations(sorted(set(range(num_seeds)) - set(first)), half)
            if first[0] < second[0]
        ]
    else:
        rng = np.random.default_rng(rng_seed)
        shuffled = [rng.permutation(num_seeds) for _ in range(_RANDOM_SPLITS)]
        splits = [(order[:half], order[half : 2 * half]) for order in shuffled]
    weights = np.zeros((2, len(splits), num_seeds))
    for split, parts in enumerate(splits):
        for side, part in enumerate(parts):
            weights[side, split, list(part)] = 1 / half
    return weights[0], weights[1]


def _agreement(xx_SS: np.ndarray, xy_SS: np.ndarray, yy_SS: np.ndarray, num_seeds: int) -> dict:
    count = len(xx_SS)
    single_SS = _correlation(xy_SS, np.diag(xx_SS)[:, None], np.diag(yy_SS)[None, :])
    same = np.trace(single_SS) / count
    cross = (single_SS.sum() - np.trace(single_SS)) / (count * (count - 1))
    # The covariance of two mean maps is the mean covariance of the runs' maps.
    whole = _correlation(xy_SS.mean(), xx_SS.mean(), yy_SS.mean())
    half_x, half_y = _split_half(xx_SS), _split_half(yy_SS)
    half_xy = _cross_half(xx_SS, xy_SS, yy_SS)
    full_x, full_y = (spearman_brown(r, num_seeds, count // 2) for r in (half_x, half_y))
    return {
        "correlation": float(whole),
        "corrected": float(_correlation(whole, full_x, full_y)),
        "cross_half": half_xy,
        "cross_half_corrected": float(_correlation(np.float64(half_xy), half_x, half_y)),
        "same_seed": float(same),
        "cross_seed": float(cross),
        "same_minus_cross": float(same - cross),
    }


def _split_half(covariance_SS: np.ndarray) -> float:
    return _cross_half(covariance_SS, covariance_SS, covariance_SS)


def _cross_half(xx_SS: np.ndarray, xy_SS: np.ndarray, yy_SS: np.ndarray) -> float:
    """Correlation of x's mean map over one half with y's over the other, mean over splits."""
    first_HS, second_HS = halves(len(xx_SS))
    correlations = [
        _correlation(_form(a, xy_SS, b), _form(a, xx_SS, a), _form(b, yy_SS, b))
        for a, b in ((first_HS, second_HS), (second_HS, first_HS))
    ]
    return float(np.mean(correlations))


def _form(a_HS: np.ndarray, covariance_SS: np.ndarray, b_HS: np.ndarray) -> np.ndarray:
    """aᵀ C b [H]: the covariance of two weighted means of maps, for each split."""
    return np.sum((a_HS @ covariance_SS) * b_HS, axis=-1)


def spearman_brown(correlation: float, num_seeds: int, half: int) -> float:
    """Return the reliability of a mean over seeds by the formula of Spearman and Brown (1910).

    Args:
        correlation: Correlation r between means of ``half`` runs each.
        num_seeds: Number of runs in the mean, k times ``half``.
        half: Number of runs in a half.

    Returns:
        k r / (1 + (k − 1) r); NaN where the denominator is not positive.
    """
    factor = num_seeds / half
    denominator = 1 + (factor - 1) * correlation
    return factor * correlation / denominator if denominator > 0 else float("nan")


def _correlation(covariance, variance_x, variance_y) -> np.ndarray:
    product = np.asarray(np.maximum(variance_x, 0) * np.maximum(variance_y, 0))
    undefined = np.full(np.broadcast(covariance, product).shape, np.nan)
    return np.divide(covariance, np.sqrt(product), out=undefined, where=product > 0)


def _flat(scores: xr.DataArray) -> np.ndarray:
    """Maps [S Q] of the runs, less their mean over pairs."""
    runs = run_means(scores).transpose("seed", "train", "test")
    if runs.sizes["seed"] < 2:
        raise UserError(f"reliability over seeds needs at least two, got {runs.sizes['seed']}")
    runs_SQ = runs.values.reshape(runs.sizes["seed"], -1)
    runs_SQ = runs_SQ - runs_SQ[:, :1]  # a constant map gets a variance of exactly zero
    return runs_SQ - runs_SQ.mean(axis=1, keepdims=True)


def _covariance(x_SQ: np.ndarray, y_SQ: np.ndarray) -> np.ndarray:
    return x_SQ @ y_SQ.T / x_SQ.shape[1]


def _with_intervals(
    estimate: Callable[[np.ndarray], dict[str, float]], num_seeds: int
) -> pd.DataFrame:
    """Table of estimates from all seeds, with jackknife intervals."""
    seeds = np.arange(num_seeds)
    values = estimate(seeds)
    # Of three seeds, leaving one out leaves halves of one run, which are still defined.
    left_out = [estimate(np.delete(seeds, seed)) for seed in seeds] if num_seeds > 2 else []
    rows = []
    for quantity, value in values.items():
        is_correlation = quantity in _CORRELATIONS
        transform, inverse = (fisher_z, np.tanh) if is_correlation else (np.asarray, np.asarray)
        replicates = transform(np.array([replicate[quantity] for replicate in left_out]))
        ends = jackknife_interval(transform(np.array(value)), [replicates])
        interval = Interval(*map(inverse, ends))
        rows.append((quantity, value, float(interval.low), float(interval.high)))
    return pd.DataFrame(rows, columns=["quantity", "value", "low", "high"])
