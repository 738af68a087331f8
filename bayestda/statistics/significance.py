r"""Is a score different from zero? Tests over seeds, one per train-test pair.

The unit is a training run: checkpoints of one run are averaged first, because they are not
independent. Everywhere a score that is not a number gives a result that is not a number.
"""

from functools import cache

import numpy as np
import xarray as xr
from scipy import integrate, optimize, special, stats

from bayestda.errors import UserError
from bayestda.statistics.alignment import checked_runs, run_means
from bayestda.statistics.intervals import Interval, jackknife_interval

LEVEL = 0.05
POWER = 0.8
_TABLED_SEEDS = 200  # up to here seeds_needed is exact, beyond it is within one seed


def student_t(scores: xr.DataArray) -> xr.Dataset:
    r"""Student's one-sample, two-sided t-test of :math:`E[\tau] = 0` over seeds.

    Seeds that agree exactly (zero variance) give p = 1 where they agree on zero, else p = 0.

    Args:
        scores: dims (seed, checkpoint, train, test); checkpoints are averaged.

    Returns:
        mean, std (over seeds, ddof 1), t, p; dims (train, test).

    Raises:
        UserError: less than two seeds.
    """
    runs = _runs(scores)
    tested = _student_t(runs.values)
    template = runs.isel(seed=0, drop=True)
    return xr.Dataset({name: template.copy(data=values) for name, values in tested.items()})


def mean_p_interval(scores: xr.DataArray) -> Interval:
    """95 % jackknife interval over seeds of the mean p-value of :func:`student_t`.

    Args:
        scores: dims (seed, checkpoint, train, test).

    Returns:
        Numbers; not a number with less than three seeds.
    """
    runs = _runs(scores).values
    seeds = range(len(runs)) if len(runs) > 2 else []
    means = [_student_t(np.delete(runs, seed, axis=0))["p"].mean() for seed in seeds]
    return jackknife_interval(_student_t(runs)["p"].mean(), [np.array(means)])


def signal_to_noise(scores: xr.DataArray) -> xr.DataArray:
    """Signed mean over standard deviation (ddof 1) of the runs; dims (train, test).

    The released code correlates this quantity between methods under the name of p-value. Infinite
    where the runs agree exactly on a value that is not zero, zero where they agree on zero.

    Raises:
        UserError: less than two seeds.
    """
    runs = _runs(scores)
    return runs.isel(seed=0, drop=True).copy(data=ratio(*_mean_and_std(runs.values)))


def benjamini_hochberg(p: xr.DataArray) -> xr.DataArray:
    """False discovery rate q of each pair, over all pairs (Benjamini and Hochberg 1995).

    Args:
        p: p-values of any shape; those that are not numbers are no tests and stay so.
    """
    q = np.full(p.shape, np.nan)
    tested = np.isfinite(p.values)
    if tested.any():
        q[tested] = stats.false_discovery_control(p.values[tested])
    return p.copy(data=q)


def published_p(scores: xr.DataArray) -> xr.DataArray:
    r"""The released code's p, :math:`2 \Phi(-|\bar\tau / s|)`; dims (train, test).

    It lacks :math:`\sqrt n` and Student's distribution, so it is no p-value: it measures the
    signal-to-noise ratio of a single run. Compare it with :func:`expected_published_p`.
    """
    return xr.apply_ufunc(lambda snr: 2 * special.ndtr(-np.abs(snr)), signal_to_noise(scores))


@cache
def expected_published_p(num_seeds: int) -> float:
    r"""Mean of :func:`published_p` when the true score is zero and runs are normal.

    There :math:`\bar\tau / s = t / \sqrt n` with n - 1 degrees of freedom; .790 for n = 10.
    """

    def weighted(t: float) -> float:
        return 4 * special.ndtr(-t / np.sqrt(num_seeds)) * stats.t.pdf(t, num_seeds - 1)

    return float(integrate.quad(weighted, 0, np.inf)[0])


def sign_agreement(scores: xr.DataArray) -> xr.DataArray:
    """Share of runs whose score has the majority's sign; dims (train, test).

    A score of exactly zero has no sign and agrees with none.
    """
    runs = run_means(scores)
    majority = xr.apply_ufunc(np.maximum, (runs > 0).sum("seed"), (runs < 0).sum("seed"))
    return (majority / runs.sizes["seed"]).where(runs.notnull().all("seed"))


def expected_sign_agreement(num_seeds: int) -> float:
    """Mean of :func:`sign_agreement` when either sign is equally likely; .623 for 10 seeds."""
    positive = np.arange(num_seeds + 1)
    weights = stats.binom.pmf(positive, num_seeds, 0.5)
    return float(weights @ np.maximum(positive, num_seeds - positive) / num_seeds)


def seeds_needed(snr: xr.DataArray, level: float = LEVEL, power: float = POWER) -> xr.DataArray:
    """Seeds with which the t-test at a level finds a pair's effect with a probability, the power.

    To find is to reject with the right sign (noncentral t; at the default the wrong sign adds less
    than 1e-5). The observed ratio is taken for the true one; among pairs selected for a small p it
    is too large, and this number too small.

    Args:
        snr: mean over standard deviation of the runs (:func:`signal_to_noise`), any shape.
        level, power: of the test.

    Returns:
        Whole numbers from 2, infinity where the ratio is zero; exact up to 200, then within one
        (normal approximation with Guenther's correction).
    """
    return xr.apply_ufunc(_seeds_needed, snr, kwargs={"level": level, "power": power})


def _seeds_needed(snr: np.ndarray, level: float, power: float) -> np.ndarray:
    effect = np.abs(snr)
    z_level, z_power = special.ndtri(1 - level / 2), special.ndtri(power)
    with np.errstate(divide="ignore", over="ignore"):
        large = np.ceil(((z_level + z_power) / effect) ** 2 + z_level**2 / 2)
    smallest = _smallest_effects(level, power)
    tabled = 2.0 + np.searchsorted(-smallest, -effect, side="left")
    return np.where(effect >= smallest[-1], tabled, np.maximum(large, _TABLED_SEEDS + 1))


@cache
def _smallest_effects(level: float, power: float) -> np.ndarray:
    """Smallest mean over standard deviation found with 2, 3, ... seeds; falling."""

    def found(num_seeds: int) -> float:
        critical = stats.t.isf(level / 2, num_seeds - 1)

        def surplus(noncentrality: float) -> float:
            return _power(noncentrality, num_seeds - 1, critical) - power

        large = 1.0
        while surplus(large) < 0:
            large *= 2
        return optimize.brentq(surplus, 0.0, large, xtol=1e-12) / np.sqrt(num_seeds)

    return np.array([found(num_seeds) for num_seeds in range(2, _TABLED_SEEDS + 1)])


def _power(noncentrality: float, degrees: int, critical: float) -> float:
    """Chance that a noncentral t exceeds the critical value."""
    missed = special.nctdtr(degrees, noncentrality, critical)
    if np.isfinite(missed):
        return float(1 - missed)
    # Far out, where scipy's series fails, the noise of the mean is nothing beside its size.
    return float(special.chdtr(degrees, degrees * (noncentrality / critical) ** 2))


def ratio(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Mean over std: zero where both are zero, infinite where only the std is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((mean == 0) & (std == 0), 0.0, mean / std)


def two_sided_p(signal_to_noise: np.ndarray, num_seeds: float) -> np.ndarray:
    """Student's p-value of a mean over std of so many runs."""
    return 2 * special.stdtr(num_seeds - 1, -np.abs(signal_to_noise) * np.sqrt(num_seeds))


def _student_t(runs: np.ndarray) -> dict[str, np.ndarray]:
    """Mean, std, t, p over the first axis."""
    mean, std = _mean_and_std(runs)
    found = ratio(mean, std)
    t = found * np.sqrt(len(runs))
    return {"mean": mean, "std": std, "t": t, "p": two_sided_p(found, len(runs))}


def _mean_and_std(runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Seen from the first run, so that runs which agree exactly have a variance of exactly zero.
    from_first = runs - runs[0]
    return runs[0] + from_first.mean(axis=0), from_first.std(axis=0, ddof=1)


def _runs(scores: xr.DataArray) -> xr.DataArray:
    """Means over checkpoints, seeds first."""
    runs = run_means(scores).transpose("seed", ...)
    if runs.sizes["seed"] < 2:
        raise UserError(f"a test over seeds needs at least two, got {runs.sizes['seed']}")
    return runs


def pair_reliability(
    scores: xr.DataArray, *, level: float = LEVEL, power: float = POWER
) -> xr.Dataset:
    """Mean score of every train-test pair over seeds, and how far it can be trusted.

    Args:
        scores: dims (seed, train, test) and, unless already averaged, checkpoint (averaged first:
            checkpoints of one run are not independent).
        level, power: of the two-sided t-test that ``seeds_needed`` plans. Change nothing else.

    Returns:
        Variables of dims (train, test). ``mean``, ``std`` (ddof 1) over seeds; ``t``, ``p`` of
        Student's test of a mean of zero; ``q``, the false discovery rate over all pairs (Benjamini
        and Hochberg 1995); ``sign_agreement``, the share of seeds with the majority's sign (a zero
        has none); ``seeds_needed`` to find an effect as large as the observed one, which among
        pairs picked for their small p is too large, and their number too small. Attributes state
        n, null hypothesis, correction, and the agreement expected of noise
        (:func:`expected_sign_agreement`).

    Raises:
        UserError: less than two seeds, missing or further dims, values that are not finite, a
            level or power outside of 0 to 1.
    """
    runs = checked_runs(scores, ("train", "test"), min_seeds=2)
    if not (0 < level < 1 and level < power < 1):
        raise UserError(
            f"level {level} and power {power} must lie between 0 and 1, the level below the power"
        )
    pairs = student_t(runs)
    pairs["q"] = benjamini_hochberg(pairs["p"])
    pairs["sign_agreement"] = sign_agreement(runs)
    pairs["seeds_needed"] = seeds_needed(signal_to_noise(runs), level, power)
    return pairs.transpose("train", "test").assign_attrs(
        num_seeds=runs.sizes["seed"],
        null_hypothesis="the score's mean over seeds is zero (Student's t, two-sided)",
        correction="q: Benjamini-Hochberg over all pairs",
        seeds_needed=f"two-sided t-test at level {level} with power {power}",
        sign_agreement_of_noise=expected_sign_agreement(runs.sizes["seed"]),
    )
