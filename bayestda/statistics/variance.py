r"""Split the variance of a score into components: seeds, initialisation, order, epochs.

This is a random-effects ANOVA for each train-test pair. Estimates are unbiased, so they may be
negative, and stay so. Tables sum the components over pairs, so that pairs count by their variance.

Checkpoints are the same epochs in every run, hence crossed with runs. Neighbouring checkpoints of
a run are correlated, so the components describe the kept epochs and no others. A seed's component
is the variance that all kept epochs of a run share.
"""

import numpy as np
import pandas as pd
import xarray as xr

from bayestda.errors import UserError
from bayestda.statistics.alignment import run_means
from bayestda.statistics.intervals import jackknife_interval


def pooled_pair_variance(score: xr.DataArray, test_loss: xr.DataArray) -> xr.DataArray:
    r"""Return the paper's variance of LOO, over all T² pairs of a retrained and a base model.

    Over all (t, t') the variance of :math:`L(z;\theta_{\setminus j}^{(t)}) - L(z;\theta^{(t')})`
    is exactly the sum of both variances over the pooled samples. The pairing by seed is lost.

    Args:
        score: LOO scores with dims (seed, checkpoint, train, test).
        test_loss: Losses of the base models, dims (seed, checkpoint, test).

    Returns:
        Variances with dims (train, test), in squared units of the loss, with the denominator T².
    """
    pooled = ("seed", "checkpoint")
    base = test_loss.astype(np.float64)
    retrained = score.astype(np.float64) + base
    variance = retrained.var(pooled, skipna=False) + base.var(pooled, skipna=False)
    return variance.transpose("train", "test")


def pooled_pair_share(score: xr.DataArray, test_loss: xr.DataArray) -> pd.DataFrame:
    """Return :func:`pooled_pair_variance` as a multiple of the variance of the paired score.

    Args:
        score: LOO scores with dims (seed, checkpoint, train, test).
        test_loss: Losses of the base models, dims (seed, checkpoint, test).

    Returns:
        One row, the component ``all_pairs_published``, with its variance (mean over pairs), its
        share of the total of :func:`seed_components`, and ``low`` and ``high``, the share's 95 %
        jackknife interval over seeds.
    """
    seeds = np.arange(score.sizes["seed"])

    def share(chosen: np.ndarray) -> float:
        part = score.isel(seed=chosen)
        total = sum(float(v.mean()) for v in seed_components(part).values())
        pooled = float(pooled_pair_variance(part, test_loss.isel(seed=chosen)).mean())
        return pooled / total if total > 0 else float("nan")

    left_out = [share(seeds != seed) for seed in seeds] if len(seeds) > 2 else []
    value = np.array([share(seeds >= 0)])
    interval = jackknife_interval(value, [np.array(left_out)])
    variance = float(pooled_pair_variance(score, test_loss).mean())
    table = pd.DataFrame({"component": ["all_pairs_published"], "variance": [variance]})
    return table.assign(share=value, low=interval.low, high=interval.high)


def seed_components(scores: xr.DataArray) -> xr.Dataset:
    r"""Return variances of seeds and epochs, crossed: :math:`\tau = \mu + a_s + b_e + c_{se}`.

    Also without this model, ``seed`` is the mean covariance over seeds of two different kept
    epochs, and ``epoch`` the mean covariance over epochs of two different runs, the trend that all
    runs share. Checkpoints of a run are correlated, so ``seed`` grows as epochs are kept closer
    together, at the expense of ``seed_x_epoch``.

    Args:
        scores: Scores with dims (seed, checkpoint, train, test), from independent runs.

    Returns:
        The variables seed, epoch and seed_x_epoch, the variance of each effect with dims (train,
        test). From one checkpoint only seed, which then includes ``seed_x_epoch``.

    Raises:
        UserError: There are less than two seeds.
    """
    return _by_seed(_runs(scores))


def crossed_components(scores: xr.DataArray) -> xr.Dataset:
    r"""Return variances of initialisation, order, their interaction, and epochs, from a full grid.

    The model is :math:`\tau = \mu + a_i + b_o + c_{io} + d_e + f_{ioe}` with initialisation i,
    order o and epoch e. With one run per cell the interaction is confounded with anything else
    that differs between runs (such as a device's rounding); the noise of averaging few checkpoints
    is subtracted from it. Checkpoints of a run are correlated, so what all kept epochs of a run
    share counts as the run's. Effects of an epoch that runs of one initialisation (or order) share
    are not modelled; they go into the epoch components.

    Args:
        scores: Scores with dims (init, order, checkpoint, train, test), from :func:`to_grid`.

    Returns:
        The variables init, order, interaction, epoch (common to all runs) and run_x_epoch, the
        variance of each effect with dims (train, test). From one checkpoint only the first three.

    Raises:
        UserError: There are less than two initialisations or orders.
    """
    return _crossed(_runs(scores))


def to_grid(scores: xr.DataArray) -> xr.DataArray:
    """Arrange runs in a grid: the dim seed, with coordinates init and order, becomes both dims.

    Raises:
        UserError: A cell of the grid has no run, or more than one.
    """
    cells = list(zip(scores["init"].values, scores["order"].values, strict=True))
    full = len(np.unique(scores["init"])) * len(np.unique(scores["order"]))
    if not len(cells) == len(set(cells)) == full:
        raise UserError(
            f"{len(cells)} runs do not fill a grid of initialisations and orders: give one run for "
            "each pair of both"
        )
    indexed = scores.drop_vars("seed").set_index(seed=("init", "order"))
    return indexed.unstack("seed")  # noqa: PD010  (xarray has no pivot_table)


def seed_shares(scores: xr.DataArray) -> pd.DataFrame:
    """Return :func:`seed_components` over all pairs, with 95 % jackknife intervals over seeds.

    Args:
        scores: Scores with dims (seed, checkpoint, train, test).

    Returns:
        The columns component, variance (mean over pairs), share of the total, and low and high, the
        share's interval.
    """
    runs = _runs(scores)
    return _table(_by_seed(runs), [_without_each(runs, "seed", _by_seed)])


def crossed_shares(scores: xr.DataArray) -> pd.DataFrame:
    """Return :func:`crossed_components` over all pairs, with 95 % jackknife intervals.

    Intervals are over initialisations and orders.

    Args:
        scores: Scores with dims (init, order, checkpoint, train, test), from :func:`to_grid`.

    Returns:
        The columns component, variance (mean over pairs), share of the total, and low and high, the
        share's interval.
    """
    runs = _runs(scores)
    factors = [_without_each(runs, factor, _crossed) for factor in ("init", "order")]
    return _table(_crossed(runs), factors)


def _runs(scores: xr.DataArray) -> xr.Dataset:
    """Mean of each run over its checkpoints, and the checkpoints' deviations from it."""
    mean = run_means(scores)
    return xr.Dataset({"mean": mean, "deviation": scores.astype(np.float64) - mean})


def _by_seed(runs: xr.Dataset) -> xr.Dataset:
    _need_two(runs, "seed")
    between = runs["mean"].var("seed", ddof=1, skipna=False)
    if runs.sizes["checkpoint"] < 2:
        return xr.Dataset({"seed": between})
    epoch, residual = _epochs(runs, "seed")
    # A run's mean over C epochs also varies by the residual's variance / C.
    seed = between - residual / runs.sizes["checkpoint"]
    return xr.Dataset({"seed": seed, "epoch": epoch, "seed_x_epoch": residual})


def _crossed(runs: xr.Dataset) -> xr.Dataset:
    _need_two(runs, "init", "order")
    mean, num_inits, num_orders = runs["mean"], runs.sizes["init"], runs.sizes["order"]
    # The usual estimators of a two-way layout with one run per cell: what is left after both main
    # effects is the interaction, and its mean square also inflates the variance of their means.
    init_means, order_means = mean.mean("order"), mean.mean("init")
    residual = mean - init_means - order_means + mean.mean(("init", "order"))
    mean_square = (residual**2).sum(("init", "order")) / ((num_inits - 1) * (num_orders - 1))
    parts = {
        "init": init_means.var("init", ddof=1) - mean_square / num_orders,
        "order": order_means.var("order", ddof=1) - mean_square / num_inits,
        "interaction": mean_square,
    }
    if runs.sizes["checkpoint"] > 1:
        epoch, within = _epochs(runs, "init", "order")
        parts["interaction"] = mean_square - within / runs.sizes["checkpoint"]
        parts |= {"epoch": epoch, "run_x_epoch": within}
    return xr.Dataset(parts)


def _epochs(runs: xr.Dataset, *factors: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Variance of the epochs' effect common to all runs, and of what remains within runs."""
    deviation = runs["deviation"]
    num_runs = np.prod([runs.sizes[factor] for factor in factors])
    common = deviation.mean(factors, skipna=False)
    degrees = (num_runs - 1) * (runs.sizes["checkpoint"] - 1)
    residual = ((deviation - common) ** 2).sum((*factors, "checkpoint"), skipna=False) / degrees
    return common.var("checkpoint", ddof=1, skipna=False) - residual / num_runs, residual


def _need_two(runs: xr.Dataset, *factors: str) -> None:
    for factor in factors:
        if runs.sizes[factor] < 2:
            raise UserError(f"variance components need at least two levels of {factor}")


def _without_each(runs: xr.Dataset, factor: str, components) -> np.ndarray:
    """Shares [level, component] with each level of a factor left out; empty if that is too few."""
    levels = np.arange(runs.sizes[factor])
    if len(levels) < 3:
        return np.empty((0, 0))
    return np.stack([_shares(components(runs.isel({factor: levels != level}))) for level in levels])


def _shares(components: xr.Dataset) -> np.ndarray:
    totals = np.array([float(variance.sum(skipna=False)) for variance in components.values()])
    return totals / totals.sum() if totals.sum() > 0 else np.full(len(totals), np.nan)


def _table(components: xr.Dataset, left_out: list[np.ndarray]) -> pd.DataFrame:
    shares = _shares(components)
    interval = jackknife_interval(shares, left_out)
    return pd.DataFrame(
        {
            "component": list(components),
            "variance": [float(variance.mean()) for variance in components.values()],
            "share": shares,
            "low": interval.low,
            "high": interval.high,
        }
    )
