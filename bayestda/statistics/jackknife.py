"""Leave seeds or queries out of a problem, for intervals, tests and ceilings.

Letters of array names: L measures; T methods and, in maps, last the truth; S seeds; A rows;
M queries; G groups of queries; H splits of the seeds; K methods that have the truth's seeds and,
last, the truth.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bayestda.statistics.ground_truth import Problem, Runs
from bayestda.statistics.intervals import Interval, fisher_z, jackknife_interval
from bayestda.statistics.reliability import halves, spearman_brown
from bayestda.statistics.significance import ratio, two_sided_p

_WORK = 3_000_000  # pairs x repetitions: bounds a table of six methods to some ten seconds
# Bounds of the repetitions (groups of queries left out, splits of the seeds). Ten seeds have 126
# splits into halves.
_FEWEST, _MOST = 20, 126


class Halved(NamedTuple):
    """Hold estimates from halves of the seeds; see :func:`bayestda.statistics.evaluate`.

    Attributes:
        ceiling: Ceiling of each measure [L].
        cross: Value between one half's scores and the other half's truth [L T].
        corrected: The same, corrected for the noise of both [L T].
    """

    ceiling: np.ndarray
    cross: np.ndarray
    corrected: np.ndarray


class LeftOut(NamedTuple):
    """Hold values of a problem without some of its seeds or queries.

    Attributes:
        by_seed: Values [L T] by the seed that is left out.
        by_query: Values [G L T] for each group of queries that is left out.
    """

    by_seed: dict[Any, np.ndarray]
    by_query: np.ndarray

    def factors(self, runs: Sequence[Runs]) -> list[np.ndarray]:
        """Return values [level, L, T] for each factor of the seeds in these runs.

        Runs that share seeds form one factor, others one each. If any has less than three seeds,
        the only factor is empty, which gives no interval.
        """
        sets = [set(r.seeds) for r in runs if r.seeds]
        if not sets or min(map(len, sets)) < 3:
            return [np.empty((0, *self.by_query.shape[1:]))]
        return [
            np.stack([values for seed, values in self.by_seed.items() if seed in factor])
            for factor in merged(sets)
        ]


def left_out(problem: Problem) -> LeftOut:
    """Return values of a problem without each seed, and without each query or group of queries."""
    seeds = [seed for runs in (*problem.methods.values(), problem.truth) for seed in runs.seeds]
    by_seed = {seed: problem.values(problem.mean_maps(seed)) for seed in dict.fromkeys(seeds)}
    maps_TAM = problem.mean_maps()
    num_queries = maps_TAM.shape[-1]
    if num_queries < 3:
        return LeftOut(by_seed, np.empty((0, len(problem.measures), len(problem.methods))))
    shuffled = np.random.default_rng(0).permutation(num_queries)
    groups = np.array_split(shuffled, min(num_queries, _repetitions(maps_TAM[0].size)))
    values = [problem.values(np.delete(maps_TAM, group, axis=-1)) for group in groups]
    return LeftOut(by_seed, np.stack(values))


def merged(sets: Sequence[set]) -> list[set]:
    """Return the unions of sets that overlap, directly or through others."""
    unions: list[set] = []
    for members in sets:
        apart = [union for union in unions if not union & members]
        unions = [*apart, members.union(*(union for union in unions if union & members))]
    return unions


def value_interval(value: float, factors: list[np.ndarray], lowest: float) -> Interval:
    """Return Student's jackknife interval of a value, computed on Fisher's scale.

    Args:
        value: Value between ``lowest`` and 1.
        factors: Values with one level left out, for each factor.
        lowest: Smallest possible value: −1 of a correlation, 0 of an area.
    """

    def to_fisher(values: np.ndarray) -> np.ndarray:
        # Fisher's transformation is for −1 to 1, so that the range is stretched to it.
        return fisher_z(2 * (np.asarray(values) - lowest) / (1 - lowest) - 1)

    replicates = [to_fisher(factor) for factor in factors]
    ends = jackknife_interval(to_fisher(np.array(value)), replicates)
    return Interval(*((np.tanh(end) + 1) / 2 * (1 - lowest) + lowest for end in ends))


def zero_p(difference: float, factors: list[np.ndarray]) -> float:
    """Return the p-value of a difference of zero, with the jackknife interval's variance.

    Args:
        difference: Difference between two methods.
        factors: Differences with one level left out, for each factor.
    """
    if min(map(len, factors)) < 3:
        return float("nan")
    degrees = np.array([len(factor) - 1 for factor in factors])
    variances = np.array([factor.var() for factor in factors]) * degrees
    spread = np.sum(variances**2 / degrees)
    # Satterthwaite's degrees of freedom, as in jackknife_interval.
    pooled_degrees = float(variances.sum() ** 2 / spread) if spread else float(degrees.min())
    t = ratio(np.array(difference), np.sqrt(variances.sum()))
    # two_sided_p takes a mean over std of n runs, which is t / √n with n − 1 degrees.
    return float(two_sided_p(t / np.sqrt(pooled_degrees + 1), pooled_degrees + 1))


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values corrected for their number (Holm 1979); NaN counts as no test."""
    # The smallest of n p-values is multiplied by n, the next by n − 1, ..., and none gets smaller
    # than one before it.
    corrected = np.full(p.shape, np.nan)
    tests = np.flatnonzero(np.isfinite(p))
    order = tests[np.argsort(p[tests], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return corrected


def from_halves(problem: Problem) -> Halved:
    """Estimate ceilings, and values between one half's scores and the other half's truth."""
    num_measures, num_methods = len(problem.measures), len(problem.methods)
    cross_LT, corrected_LT = np.full((2, num_measures, num_methods), np.nan)
    num_seeds = len(problem.truth.seeds)
    if num_seeds < 2:
        # Marks of corruption are exact. The noise of any other single truth is not known.
        ceiling = [1.0 if metric == "auroc" else np.nan for metric, _ in problem.measures]
        return Halved(np.array(ceiling), cross_LT, corrected_LT)
    shares = [set(r.seeds) == set(problem.truth.seeds) for r in problem.methods.values()]
    halved_LKK = _across_halves(problem, shares)
    # On the diagonal a map meets its own other half, which is its split-half reliability. The last
    # row and column hold method against truth: first half against second, and the reverse.
    reliability_LK = np.diagonal(halved_LKK, axis1=1, axis2=2)
    cross_LK = (halved_LKK[:, -1] + halved_LKK[:, :, -1]) / 2
    product_LK = np.maximum(reliability_LK, 0) * np.maximum(reliability_LK[:, -1:], 0)
    noise_free_LK = np.full_like(cross_LK, np.nan)
    np.divide(cross_LK, np.sqrt(product_LK), out=noise_free_LK, where=product_LK > 0)
    cross_LT[:, shares], corrected_LT[:, shares] = cross_LK[:, :-1], noise_free_LK[:, :-1]
    whole = [spearman_brown(r, num_seeds, num_seeds // 2) for r in reliability_LK[:, -1]]
    return Halved(np.sqrt(np.clip(whole, 0, None)), cross_LT, corrected_LT)


def _across_halves(problem: Problem, shares: list[bool]) -> np.ndarray:
    """Values [L K K] of mean maps over one half against those over the other, mean over splits."""
    seeds = problem.truth.seeds
    runs = [r for r, is_used in zip(problem.methods.values(), shares, strict=True) if is_used]
    maps_KSAM = np.stack(
        [r.maps_SAM[[r.seeds.index(seed) for seed in seeds]] for r in (*runs, problem.truth)]
    )
    first_HS, second_HS = halves(len(seeds))
    # Too many splits are thinned out evenly.
    num_splits = min(len(first_HS), _repetitions(maps_KSAM[0, 0].size))
    splits = np.linspace(0, len(first_HS) - 1, num_splits).round().astype(int)
    num_maps, values = len(maps_KSAM), []
    for split in splits:
        half_maps = [
            np.einsum("s,ksam->kam", weights_S, maps_KSAM)
            for weights_S in (first_HS[split], second_HS[split])
        ]
        matrices = [measure(np.concatenate(half_maps)) for measure in problem.measures.values()]
        values.append(np.stack(matrices)[:, :num_maps, num_maps:])
    return np.mean(values, axis=0)


def _repetitions(num_pairs: int) -> int:
    return int(np.clip(_WORK // num_pairs, _FEWEST, _MOST))
