"""Values of a problem with seeds or queries left out, and what follows: intervals, tests, ceilings.

Letters of array names: L measures, T methods and, in maps, last the truth; S seeds; A rows;
M queries; G groups of queries; H splits of the seeds; K methods that have the truth's seeds, and
the truth.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bayestda.statistics.ground_truth import Problem, Runs
from bayestda.statistics.intervals import Interval, fisher_z, jackknife_interval
from bayestda.statistics.reliability import halves, spearman_brown
from bayestda.statistics.significance import ratio, two_sided_p

_WORK = 3_000_000  # pairs x repetitions that keep a table of six methods below some ten seconds
_FEWEST, _MOST = 20, 126  # repetitions: groups of queries left out, splits of the seeds


class Halved(NamedTuple):
    """What the halves of the seeds tell: [L], [L T], [L T]."""

    ceiling: np.ndarray
    cross: np.ndarray
    corrected: np.ndarray


class LeftOut(NamedTuple):
    """Values [L T] by the seed that is left out, and [G L T] by the group of queries."""

    by_seed: dict[Any, np.ndarray]
    by_query: np.ndarray

    def factors(self, runs: Sequence[Runs]) -> list[np.ndarray]:
        """Values [level, L, T] per factor of the seeds in these runs.

        Runs that share seeds are one factor, others one each. Empty factors, which give no
        interval, if any has less than three seeds.
        """
        sets = [set(r.seeds) for r in runs if r.seeds]
        if not sets or min(map(len, sets)) < 3:
            return [np.empty((0, *self.by_query.shape[1:]))]
        return [
            np.stack([values for seed, values in self.by_seed.items() if seed in factor])
            for factor in merged(sets)
        ]


def left_out(problem: Problem) -> LeftOut:
    """Values of a problem without each seed, and without each query or group of queries."""
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
    """Unions of the sets that overlap, directly or through others."""
    unions: list[set] = []
    for members in sets:
        apart = [union for union in unions if not union & members]
        unions = [*apart, members.union(*(union for union in unions if union & members))]
    return unions


def value_interval(value: float, factors: list[np.ndarray], lowest: float) -> Interval:
    """Student's jackknife interval of a value from ``lowest`` to 1, found on Fisher's scale."""

    def there(values: np.ndarray) -> np.ndarray:
        return fisher_z(2 * (np.asarray(values) - lowest) / (1 - lowest) - 1)

    ends = jackknife_interval(there(np.array(value)), [there(factor) for factor in factors])
    return Interval(*((np.tanh(end) + 1) / 2 * (1 - lowest) + lowest for end in ends))


def zero_p(difference: float, factors: list[np.ndarray]) -> float:
    """p of a difference of zero, with the variance and degrees of the jackknife interval."""
    if min(map(len, factors)) < 3:
        return float("nan")
    degrees = np.array([len(factor) - 1 for factor in factors])
    variances = np.array([factor.var() for factor in factors]) * degrees
    spread = np.sum(variances**2 / degrees)
    pooled = float(variances.sum() ** 2 / spread) if spread else float(degrees.min())
    t = ratio(np.array(difference), np.sqrt(variances.sum()))
    return float(two_sided_p(t / np.sqrt(pooled + 1), pooled + 1))


def holm(p: np.ndarray) -> np.ndarray:
    """p-values corrected for their number (Holm 1979); those that are not numbers are no tests."""
    corrected = np.full(p.shape, np.nan)
    tested = np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return corrected


def from_halves(problem: Problem) -> Halved:
    """Ceilings, and what the truth of one half of the seeds says about scores of the other."""
    num_measures, num_methods = len(problem.measures), len(problem.methods)
    cross_LT, corrected_LT = np.full((2, num_measures, num_methods), np.nan)
    num_seeds = len(problem.truth.seeds)
    if num_seeds < 2:  # of a truth without seeds only marks of corruption are known to be exact
        exact = [1.0 if metric == "auroc" else np.nan for metric, _ in problem.measures]
        return Halved(np.array(exact), cross_LT, corrected_LT)
    sharing = [set(r.seeds) == set(problem.truth.seeds) for r in problem.methods.values()]
    halved_LKK = _across_halves(problem, sharing)
    within_LK = np.diagonal(halved_LKK, axis1=1, axis2=2)
    both_LK = (halved_LKK[:, -1] + halved_LKK[:, :, -1]) / 2
    product_LK = np.maximum(within_LK, 0) * np.maximum(within_LK[:, -1:], 0)
    noise_free_LK = np.full_like(both_LK, np.nan)
    np.divide(both_LK, np.sqrt(product_LK), out=noise_free_LK, where=product_LK > 0)
    cross_LT[:, sharing], corrected_LT[:, sharing] = both_LK[:, :-1], noise_free_LK[:, :-1]
    whole = [spearman_brown(r, num_seeds, num_seeds // 2) for r in within_LK[:, -1]]
    return Halved(np.sqrt(np.clip(whole, 0, None)), cross_LT, corrected_LT)


def _across_halves(problem: Problem, sharing: list[bool]) -> np.ndarray:
    """Values [L K K] of mean maps over one half against those over the other, mean over splits."""
    seeds = problem.truth.seeds
    taken = [r for r, shares in zip(problem.methods.values(), sharing, strict=True) if shares]
    maps_KSAM = np.stack(
        [r.maps_SAM[[r.seeds.index(seed) for seed in seeds]] for r in (*taken, problem.truth)]
    )
    first_HS, second_HS = halves(len(seeds))
    most = min(len(first_HS), _repetitions(maps_KSAM[0, 0].size))
    chosen = np.linspace(0, len(first_HS) - 1, most).round().astype(int)
    num_maps, values = len(maps_KSAM), []
    for split in chosen:
        half_maps = [
            np.einsum("s,ksam->kam", weights_S, maps_KSAM)
            for weights_S in (first_HS[split], second_HS[split])
        ]
        matrices = [measure(np.concatenate(half_maps)) for measure in problem.measures.values()]
        values.append(np.stack(matrices)[:, :num_maps, num_maps:])
    return np.mean(values, axis=0)


def _repetitions(num_pairs: int) -> int:
    return int(np.clip(_WORK // num_pairs, _FEWEST, _MOST))
