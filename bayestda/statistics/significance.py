r"""Test whether scores differ from zero, over seeds and for each train-test pair.

The unit is a training run: checkpoints of one run are averaged first, because they are not
independent. A score that is NaN gives a result that is NaN.
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
_TABLED_SEEDS = 200  # seeds_needed is exact up to this number, and within one seed beyond it


def student_t(scores: xr.DataArray) -> xr.Dataset:
    r"""Return Student's one-sample, two-sided t-test of :math:`E[\tau] = 0` over seeds.

    Seeds that agree exactly (zero variance) give p = 1 where they agree on zero, else p = 0.

    Args:
        scores: Scores with dims (seed, checkpoint, train, test); checkpoints are averaged.

    Returns:
        The variables mean, std (over seeds, ddof 1), t and p; dims (train, test).

    Raises:
        UserError: There are less than two seeds.
    """
    runs = _runs(scores)
    results = _student_t(runs.values)
    template = runs.isel(seed=0, drop=True)
    return xr.Dataset({name: template.copy(data=values) for name, values in results.items()})


def mean_p_interval(scores: xr.DataArray) -> Interval:
    """Return a 95 % jackknife interval over seeds for the mean p-value of :func:`student_t`.

    Args:
        scores: Scores with dims (seed, checkpoint, train, test).

    Returns:
        Two numbers, NaN with less than three seeds.
    """
    runs = _runs(scores).values
    seeds = range(len(runs)) if len(runs) > 2 else []
    means = [_student_t(np.delete(runs, seed, axis=0))["p"].mean() for seed in seeds]
    return jackknife_interval(_student_t(runs)["p"].mean(), [np.array(means)])


def signal_to_noise(scores: xr.DataArray) -> xr.DataArray:
    """Return the signed mean over standard deviation (ddof 1) of the runs; dims (train, test).

    It is infinite where the runs agree exactly on a value other than zero, and zero where they
    agree on zero. The released code correlates this quantity between methods as a p-value.

    Raises:
        UserError: There are less than two seeds.
    """
    runs = _runs(scores)
    return runs.isel(seed=0, drop=True).copy(data=ratio(*_mean_and_std(runs.values)))


def benjamini_hochberg(p: xr.DataArray) -> xr.DataArray:
    """Return the false discovery rate q of each pair, over all pairs.

    Source: Benjamini and Hochberg 1995.

    Args:
        p: p-values of any shape; NaN counts as no test and stays NaN.
    """
    q = np.full(p.shape, np.nan)
    is_test = np.isfinite(p.values)
    if is_test.any():
        q[is_test] = stats.false_discovery_control(p.values[is_test])
    return p.copy(data=q)


def published_p(scores: xr.DataArray) -> xr.DataArray:
    r"""Return the released code's p, :math:`2 \Phi(-|\bar\tau / s|)`; dims (train, test).

    It lacks :math:`\sqrt n` and Student's distribution, so it is no p-value but measures the
    signal-to-noise ratio of a single run. Compare it with :func:`expected_published_p`.
    """
    return xr.apply_ufunc(lambda snr: 2 * special.ndtr(-np.abs(snr)), signal_to_noise(scores))


@cache
def expected_published_p(num_seeds: int) -> float:
    r"""Return the mean of :func:`published_p` when the true score is zero and runs are normal.

    In that case :math:`\bar\tau / s = t / \sqrt n` with n - 1 degrees of freedom. The mean is .790
    for n = 10.
    """

    def weighted(t: float) -> float:
        return 4 * special.ndtr(-t / np.sqrt(num_seeds)) * stats.t.pdf(t, num_seeds - 1)

    return float(integrate.quad(weighted, 0, np.inf)[0])


def sign_agreement(scores: xr.DataArray) -> xr.DataArray:
    """Return the share of runs whose score has the majority's sign; dims (train, test).

    A score of exactly zero has no sign and agrees with none.
    """
    runs = run_means(scores)
    majority = xr.apply_ufunc(np.maximum, (runs > 0).sum("seed"), (runs < 0).sum("seed"))
    return (majority / runs.sizes["seed"]).where(runs.notnull().all("seed"))


def expected_sign_agreement(num_seeds: int) -> float:
    """Return the mean of :func:`sign_agreement` when both signs are equally likely.

    It is .623 for 10 seeds.
    """
    num_positive = np.arange(num_seeds + 1)
    weights = stats.binom.pmf(num_positive, num_seeds, 0.5)
    return float(weights @ np.maximum(num_positive, num_seeds - num_positive) / num_seeds)


def seeds_needed(snr: xr.DataArray, level: float = LEVEL, power: float = POWER) -> xr.DataArray:
    """Return the number of seeds with which a two-sided t-test detects a pair's effect.

    An effect is detected if the test rejects with the right sign (noncentral t; at the default
    level the wrong sign adds less than 1e-5). The observed ratio is taken for the true one. Among
    pairs selected for a small p that ratio is too large, and the number of seeds too small.

    Args:
        snr: Mean over standard deviation of the runs (:func:`signal_to_noise`), any shape.
        level: Level of the test.
        power: Probability with which the effect is detected.

    Returns:
        Whole numbers from 2, infinity where the ratio is zero. They are exact up to 200, then
        within one (normal approximation with Guenther's correction).
    """
    return xr.apply_ufunc(_seeds_needed, snr, kwargs={"level": level, "power": power})


def _seeds_needed(snr: np.ndarray, level: float, power: float) -> np.ndarray:
    effect = np.abs(snr)
    z_level, z_power = special.ndtri(1 - level / 2), special.ndtri(power)
    # The normal approximation, with Guenther's correction z² / 2 for the t distribution.
    with np.errstate(divide="ignore", over="ignore"):
        approximation = np.ceil(((z_level + z_power) / effect) ** 2 + z_level**2 / 2)
    smallest = _smallest_effects(level, power)
    # The effects fall with the seeds; searchsorted wants rising numbers, hence the signs.
    tabled = 2.0 + np.searchsorted(-smallest, -effect, side="left")
    beyond_table = np.maximum(approximation, _TABLED_SEEDS + 1)
    return np.where(effect >= smallest[-1], tabled, beyond_table)


@cache
def _smallest_effects(level: float, power: float) -> np.ndarray:
    """Smallest mean over standard deviation that 2, 3, ... seeds detect; falling."""

    def smallest_effect(num_seeds: int) -> float:
        critical = stats.t.isf(level / 2, num_seeds - 1)

        def surplus(noncentrality: float) -> float:
            return _power(noncentrality, num_seeds - 1, critical) - power

        upper = 1.0
        while surplus(upper) < 0:
            upper *= 2
        return optimize.brentq(surplus, 0.0, upper, xtol=1e-12) / np.sqrt(num_seeds)

    return np.array([smallest_effect(num_seeds) for num_seeds in range(2, _TABLED_SEEDS + 1)])


def _power(noncentrality: float, degrees: int, critical: float) -> float:
    """Probability that a noncentral t exceeds the critical value."""
    miss_rate = special.nctdtr(degrees, noncentrality, critical)
    if np.isfinite(miss_rate):
        return float(1 - miss_rate)
    # Far out scipy's series fails. There the mean's noise is negligible beside its size, and only
    # that of the standard deviation is left, which is chi-squared.
    return float(special.chdtr(degrees, degrees * (noncentrality / critical) ** 2))


def ratio(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Return mean over std: zero where both are zero, infinite where only the std is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((mean == 0) & (std == 0), 0.0, mean / std)


def two_sided_p(signal_to_noise: np.ndarray, num_seeds: float) -> np.ndarray:
    """Return Student's two-sided p-value for a mean over std of ``num_seeds`` runs."""
    return 2 * special.stdtr(num_seeds - 1, -np.abs(signal_to_noise) * np.sqrt(num_seeds))


def _student_t(runs: np.ndarray) -> dict[str, np.ndarray]:
    """Mean, std, t, p over the first axis."""
    mean, std = _mean_and_std(runs)
    snr = ratio(mean, std)
    t = snr * np.sqrt(len(runs))
    return {"mean": mean, "std": std, "t": t, "p": two_sided_p(snr, len(runs))}


def _mean_and_std(runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # The first run is taken off first, so that runs that agree have a variance of exactly zero.
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
    """Return the mean score of every train-test pair over seeds, and how far it can be trusted.

    Args:
        scores: Scores with dims (seed, train, test) and, unless averaged, checkpoint. Checkpoints
            are averaged first, because those of one run are not independent.
        level: Level of the two-sided t-test that ``seeds_needed`` plans. Changes nothing else.
        power: Power of that test.

    Returns:
        Variables with dims (train, test):

        ``mean``, ``std``: Mean and standard deviation (ddof 1) over seeds.

        ``t``, ``p``: Student's test of a mean of zero.

        ``q``: The false discovery rate over all pairs (Benjamini and Hochberg 1995).

        ``sign_agreement``: The share of seeds with the majority's sign; a zero has none.

        ``seeds_needed``: The number of seeds that detect an effect as large as the observed one.
        Among pairs picked for a small p that effect is too large, and the number too small.

        Attributes state n, the null hypothesis, the correction, and the sign agreement expected of
        noise (:func:`expected_sign_agreement`).

    Raises:
        UserError: There are less than two seeds, missing or further dims, values that are not
            finite, or a level or power outside of 0 to 1.
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
