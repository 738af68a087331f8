r"""Test whether removing an example changes the spread of a measurement but not its mean.

Pairs that were chosen as the largest of many look larger than they are, so these tests need runs
that had no part in the choice. Every difference here is a mean over paired runs. With :math:`x_i`
before and :math:`y_i` after the removal in run i, the run contributes
:math:`(y_i - \bar y)^2 - (x_i - \bar x)^2` to the variance and :math:`1[y_i < c] - 1[x_i < c]` to
the lower tail. Letters: S runs, F flips.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from bayestda.distributional.influence import UNCHANGED
from bayestda.distributional.samples import Paired
from bayestda.errors import UserError
from bayestda.statistics.jackknife import holm

NUM_FLIPS = 9999  # random sign flips: the smallest possible p is 1 / 10 000
Change = Callable[[np.ndarray, np.ndarray], np.ndarray]  # [S], [S] -> [S]


def confirm_removals(
    measured: xr.DataArray,
    shifts: xr.DataArray,
    pairs: pd.DataFrame,
    *,
    thresholds: dict | None = None,
    unchanged: float = UNCHANGED,
) -> pd.DataFrame:
    """Test pairs of a training example and a test point, in runs that did not choose them.

    A pair is confirmed where *both* null hypotheses are rejected. The first is that the spread
    does not change in the predicted direction: the two values of a run are exchanged at random,
    which flips the sign of its change. The second is that the mean changes by ``unchanged`` or
    more, in two one-sided t-tests.

    Args:
        measured: Measurements of the confirming runs, dims (seed, test).
        shifts: Shifts from retraining these runs, dims (seed, train or group, test).
        pairs: Table with the columns ``train`` (or ``group``), ``test``, ``difference``
            (``variance``, or ``tail`` for P(m < c)) and ``direction``, the predicted sign.
        thresholds: Threshold c of the tail, by test point.
        unchanged: Largest change of the mean that counts as none, in standard deviations of the
            measurement.

    Returns:
        The pairs with these columns, which replace columns of the same names: ``value``, the
        change; ``p_spread``; ``mean``, the change of the mean in standard deviations; ``p_mean``;
        ``p``, the larger of both p-values; ``p_holm``, corrected for all pairs.

    Raises:
        UserError: A difference is unknown or lacks its threshold, or the arrays do not fit
            together.
    """
    samples, rng = Paired.of(measured, shifts), np.random.default_rng(0)
    flips_FS = rng.choice(np.array([-1.0, 1.0]), (NUM_FLIPS, len(measured["seed"])))
    rows, columns = shifts[samples.row].values.tolist(), measured["test"].values.tolist()
    results = []
    for pair in pairs.to_dict("records"):
        column, row = columns.index(pair["test"]), rows.index(pair[samples.row])
        x_S, y_S = samples.before[:, 0, column], samples.after[:, row, column]
        change = change_of(pair["difference"], (thresholds or {}).get(pair["test"]))
        spread_S = change(x_S, y_S)
        mean_S = (y_S - x_S) / x_S.std(ddof=1)
        results.append({
            "value": spread_S.mean(), "p_spread": flipped_p(pair["direction"] * spread_S, flips_FS),
            "mean": mean_S.mean(), "p_mean": equivalence_p(mean_S, unchanged),
        })  # fmt: skip
    tests = pd.DataFrame(results, columns=["value", "p_spread", "mean", "p_mean"], dtype=float)
    table = pairs.reset_index(drop=True).drop(columns=tests.columns, errors="ignore").join(tests)
    table["p"] = table[["p_spread", "p_mean"]].max(axis=1)  # both hypotheses must be rejected
    return table.assign(p_holm=holm(table["p"].to_numpy()))


def change_of(difference: str, threshold: float | None) -> Change:
    """Return the function that gives each run's change [S]; their mean is the difference.

    Args:
        difference: Name of the difference, ``variance`` or ``tail``.
        threshold: Threshold c of the tail.

    Raises:
        UserError: The difference is unknown, or a tail lacks its threshold.
    """
    if difference == "variance":
        return lambda x_S, y_S: (y_S - y_S.mean()) ** 2 - (x_S - x_S.mean()) ** 2
    if difference == "tail" and threshold is not None:
        return lambda x_S, y_S: (y_S < threshold) * 1.0 - (x_S < threshold)
    raise UserError(
        f"difference={difference!r} cannot be confirmed: choose 'variance', or 'tail' with its "
        "thresholds by test point"
    )


def flipped_p(change_S: np.ndarray, flips_FS: np.ndarray) -> float:
    """Return the one-sided p-value of a positive mean, under signs that are equally likely.

    Args:
        change_S: Changes of the runs.
        flips_FS: Random signs, one row per flip.
    """
    # The tolerance counts means that equal the observed one up to rounding as reaching it.
    observed = change_S.mean() - 1e-12 * np.abs(change_S).mean()
    num_reaching = (flips_FS @ change_S / len(change_S) >= observed).sum()
    # The observed signs count as one of the flips, so that p is never 0.
    return float((1 + num_reaching) / (1 + len(flips_FS)))


def equivalence_p(change_S: np.ndarray, limit: float) -> float:
    """Return the p-value of a mean outside ± limit, the larger of two one-sided t-tests.

    Args:
        change_S: Changes of the runs.
        limit: Largest change of the mean that counts as none.
    """
    num_runs = len(change_S)
    error = change_S.std(ddof=1) / np.sqrt(num_runs)
    distance = limit - abs(change_S.mean())
    return float(stats.t.sf(distance / error, num_runs - 1)) if error > 0 else float(distance <= 0)
