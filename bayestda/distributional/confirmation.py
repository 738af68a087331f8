r"""Does removing an example change the spread of a measurement and not its mean? Tests, run by run.

Pairs that were chosen as the largest of many look larger than they are, so that these tests need
runs that had no part in the choice. Every difference here is a mean over paired runs: with
:math:`x_i` before and :math:`y_i` after the removal in run i, of the variance
:math:`(y_i - \bar y)^2 - (x_i - \bar x)^2`, of the lower tail :math:`1[y_i < c] - 1[x_i < c]`.
Letters: S runs, F flips.
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

NUM_FLIPS = 9999
Change = Callable[[np.ndarray, np.ndarray], np.ndarray]  # [S], [S] -> [S]


def confirm_removals(
    measured: xr.DataArray,
    shifts: xr.DataArray,
    pairs: pd.DataFrame,
    *,
    thresholds: dict | None = None,
    unchanged: float = UNCHANGED,
) -> pd.DataFrame:
    """Test pairs of an example and a test point, in runs that did not choose them.

    A pair is confirmed where *both* hypotheses are refused: that the spread does not change in the
    predicted direction (the two values of a run are exchanged at random, which is a flip of its
    change's sign), and that the mean changes by ``unchanged`` or more (two one-sided t tests).

    Args:
        measured: dims (seed, test), of the confirming runs.
        shifts: dims (seed, train or group, test), of retraining them.
        pairs: columns ``train`` (or ``group``), ``test``, ``difference`` (``variance``, or
            ``tail``: P(m < c)) and ``direction``, the predicted sign.
        thresholds: c by test point.
        unchanged: in standard deviations of the measurement.

    Returns:
        The pairs with, in place of columns of these names: ``value``, the change; ``p_spread``;
        ``mean``, the change of the mean in standard deviations; ``p_mean``; ``p``, the larger of
        both p-values; ``p_holm``, corrected for all pairs.

    Raises:
        UserError: no such difference; as :func:`tda.rank_removals`.
    """
    held, rng = Paired.of(measured, shifts), np.random.default_rng(0)
    flips_FS = rng.choice(np.array([-1.0, 1.0]), (NUM_FLIPS, len(measured["seed"])))
    rows, columns = shifts[held.row].values.tolist(), measured["test"].values.tolist()
    found = []
    for pair in pairs.to_dict("records"):
        at = columns.index(pair["test"])
        x_S, y_S = held.before[:, 0, at], held.after[:, rows.index(pair[held.row]), at]
        change = change_of(pair["difference"], (thresholds or {}).get(pair["test"]))
        spread_S = change(x_S, y_S)
        mean_S = (y_S - x_S) / x_S.std(ddof=1)
        found.append({
            "value": spread_S.mean(), "p_spread": flipped_p(pair["direction"] * spread_S, flips_FS),
            "mean": mean_S.mean(), "p_mean": equivalence_p(mean_S, unchanged),
        })  # fmt: skip
    tests = pd.DataFrame(found, columns=["value", "p_spread", "mean", "p_mean"], dtype=float)
    table = pairs.reset_index(drop=True).drop(columns=tests.columns, errors="ignore").join(tests)
    table["p"] = table[["p_spread", "p_mean"]].max(axis=1)
    return table.assign(p_holm=holm(table["p"].to_numpy()))


def change_of(difference: str, threshold: float | None) -> Change:
    """The change of each run whose mean over runs is the difference.

    Raises:
        UserError: there is none, or a tail without its threshold.
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
    """One-sided p of a positive mean, where signs are as likely one as the other."""
    least = change_S.mean() - 1e-12 * np.abs(change_S).mean()
    reached = (flips_FS @ change_S / len(change_S) >= least).sum()
    return float((1 + reached) / (1 + len(flips_FS)))


def equivalence_p(change_S: np.ndarray, limit: float) -> float:
    """p of a mean that lies outside ± limit: the larger of two one-sided t tests."""
    num_runs = len(change_S)
    error = change_S.std(ddof=1) / np.sqrt(num_runs)
    distance = limit - abs(change_S.mean())
    return float(stats.t.sf(distance / error, num_runs - 1)) if error > 0 else float(distance <= 0)
